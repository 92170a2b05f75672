"""Read a plan of PostgreSQL: whether each row is found by all that its statement knows of it.

PostgreSQL knows nothing of a young table, and takes it for a small one. Any index that begins with the
project then looks as good as that of the whole key, and the plan is kept while the table grows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen
from pglast import ast, enums

from cgworker.kernel.store.postgres.database import Connection
from tests.kernel.one_project import COLUMN, conjuncts_of, is_a, parse

Plan = Mapping[str, Any]

# What EXPLAIN writes for the value of a subquery; no parser reads it.
_SUBQUERY = re.compile(r"\((?:hashed )?(?:SubPlan|InitPlan) \d+\)(?:\.col\d+)?")
_JOINS = ("Join Filter", "Hash Cond", "Merge Cond")
_KINDS = (enums.A_Expr_Kind.AEXPR_OP, enums.A_Expr_Kind.AEXPR_OP_ANY)


@frozen
class Scan:
    """Where a plan reads a table.

    Attributes:
        table: the table.
        index: the indexes; empty if it is read through.
        found_by: the columns by which its rows are found.
        looked_for: the columns that must equal something, whether or not its rows are found by them.
    """

    table: str
    index: str
    found_by: frozenset[str]
    looked_for: frozenset[str]

    def fault(self, keys: frozenset[str]) -> str | None:
        """What it should be found by and is not.

        Args:
            keys: the columns that the table has indexes of.
        """
        if not self.index:
            return f"{self.table} is read through"
        if missing := (self.looked_for & keys) - self.found_by:
            return f"{self.table} is looked for by {', '.join(sorted(missing))}, and {self.index} is not"
        if not self.found_by - {COLUMN}:
            return f"all of {self.index} is read"
        return None


async def plan_of(connection: Connection, statement: str) -> Plan:
    """The plan of a statement for any values."""
    count = max((int(number) for number in re.findall(r"\$(\d+)", statement)), default=0)
    await connection.execute(f"prepare examined as {statement}")
    values = f"({', '.join(['null'] * count)})" if count else ""
    plan = await connection.fetchval(f"explain (verbose, format json) execute examined {values}")
    await connection.execute("deallocate examined")
    found: Plan = json.loads(plan)[0]["Plan"]
    return found


def nodes_of(plan: Plan) -> Iterator[Plan]:
    """Yield the node and all below it."""
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes_of(inner)


def scans_of(plan: Plan) -> Iterator[Scan]:
    """Yield where the plan reads tables."""
    nodes = list(nodes_of(plan))
    joins = [node[name] for node in nodes for name in _JOINS if name in node]
    for node in nodes:
        if "Scan" in node["Node Type"] and node.get("Relation Name", "").startswith("cg_"):
            alias, indexes = node["Alias"], [each for each in nodes_of(node) if "Index Name" in each]
            is_any = any(each["Node Type"] == "BitmapOr" for each in nodes_of(node))
            found = [_columns(alias, [each.get("Index Cond")], equal_only=False) for each in indexes]
            looked_for = [node.get("Filter"), *(each.get("Index Cond") for each in indexes), *joins]
            yield Scan(
                node["Relation Name"],
                ", ".join(each["Index Name"] for each in indexes),
                frozenset.intersection(*found) if is_any else frozenset().union(*found),
                _columns(alias, looked_for, equal_only=True),
            )


def _columns(alias: str, conditions: list[str | None], *, equal_only: bool) -> frozenset[str]:
    """The columns of a table that conditions compare with something that is not written there."""
    found = set()
    for condition in filter(None, conditions):
        readable = _SUBQUERY.sub("$1", condition)
        for each in conjuncts_of(parse(f"select {readable}")[0].targetList[0].val):
            if not is_a(each, ast.A_Expr) or each.kind not in _KINDS:
                continue
            if equal_only and each.name[-1].sval != "=":
                continue
            for one, other in ((each.lexpr, each.rexpr), (each.rexpr, each.lexpr)):
                if _is_of(one, alias) and not (equal_only and _is_written(other)):
                    found.add(one.fields[-1].sval)
    return frozenset(found)


def _is_of(node: Any, alias: str) -> bool:
    return is_a(node, ast.ColumnRef) and len(node.fields) == 2 and node.fields[0].sval == alias


def _is_written(node: Any) -> bool:
    while is_a(node, ast.TypeCast):
        node = node.arg
    return is_a(node, ast.A_Const)
