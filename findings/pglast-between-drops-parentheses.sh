#!/usr/bin/env bash
# pglast prints a comparison before BETWEEN without its parentheses, which is another expression.
#
# Packages: pglast 8.8
# Guess: SQL that pglast parses and prints again means the same, since parentheses are put where they are needed.
# Seen: `(a = b) BETWEEN lower AND upper` comes out as `a = b BETWEEN lower AND upper`, which PostgreSQL reads as
#   `a = (b BETWEEN lower AND upper)`. It is the same with OR, AND, NOT, <, <> and LIKE on the left (LIKE's does not even parse);
#   on the right side, and with every other operator tried, the parentheses are kept.
# Why it matters: a tool that rewrites statements by way of pglast's tree can change a condition without a word. Compare
#   the trees before and after printing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'pglast==8.8'
"$folder/venv/bin/python" - <<'PYTHON'
from pglast import parse_sql
from pglast.stream import RawStream


def shape(sql):
    value = parse_sql(sql)[0].stmt.targetList[0].val
    return type(value).__name__, value.kind.name if hasattr(value, "kind") else value.boolop.name


def printed(sql):
    return RawStream()(parse_sql(sql))


for condition in ("(a = b) BETWEEN c AND d", "(a OR b) BETWEEN c AND d"):
    before = f"SELECT {condition}"
    after = printed(before)
    print(before, "->", after, "|", shape(before), "->", shape(after))
    assert after == before.replace("(", "").replace(")", "")
    assert shape(before) == ("A_Expr", "AEXPR_BETWEEN") and shape(after) != shape(before)
assert printed("SELECT (a = b) IN (c, d)") == "SELECT (a = b) IN (c, d)"
PYTHON
