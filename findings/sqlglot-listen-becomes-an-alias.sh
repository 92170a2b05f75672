#!/usr/bin/env bash
# sqlglot reads PostgreSQL's LISTEN and NOTIFY as a column with an alias, and prints another statement.
#
# Packages: sqlglot 30.30.0
# Guess: A statement that the postgres dialect does not know is kept as it is, with the warning that VACUUM gets,
#   or it is refused.
# Seen: `LISTEN jobs` comes back as `LISTEN AS jobs`, which PostgreSQL refuses; UNLISTEN and NOTIFY too, without a
#   warning even at the strictest error level. NOTIFY with a payload is refused. `current_timestamp(3)` comes back
#   without its precision.
# Why it matters: a tool that checks or rewrites the statements of a queue on PostgreSQL meets these in every one,
#   and takes "it was parsed" for "it was understood".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'sqlglot==30.30.0'
"$folder/venv/bin/python" - <<'PYTHON'
import logging

import sqlglot
from sqlglot.errors import ErrorLevel, ParseError

warnings = []
handler = logging.Handler()
handler.emit = lambda record: warnings.append(record.getMessage())
logging.getLogger("sqlglot").addHandler(handler)


def printed(sql):
    return sqlglot.parse_one(sql, read="postgres", error_level=ErrorLevel.RAISE).sql("postgres")


for sql in ("LISTEN jobs", "UNLISTEN jobs", "NOTIFY jobs", "SELECT CURRENT_TIMESTAMP(3)"):
    print(sql, "->", printed(sql))
assert printed("LISTEN jobs") == "LISTEN AS jobs"
assert printed("UNLISTEN jobs") == "UNLISTEN AS jobs"
assert printed("NOTIFY jobs") == "NOTIFY AS jobs"
assert printed("SELECT CURRENT_TIMESTAMP(3)") == "SELECT CURRENT_TIMESTAMP"
assert not warnings, warnings
assert printed("VACUUM (ANALYZE) jobs") == "VACUUM (ANALYZE) jobs"
assert warnings and "VACUUM" in warnings[0]
try:
    printed("NOTIFY jobs, 'now'")
except ParseError:
    print("NOTIFY with a payload is refused")
else:
    raise AssertionError("NOTIFY with a payload was parsed")
PYTHON
