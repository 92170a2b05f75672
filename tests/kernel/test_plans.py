"""Every statement of the kernel finds its rows by their whole key, also in a database that is new.

PostgreSQL's statistics are late: the plan of a statement is made while the tables are empty, and kept
while they grow. What is a fault, `plans.py` says. Before version 17 PostgreSQL does not use an array to find
rows of a table that it takes for tiny; there, nothing helps statements with arrays until the kernel analyzes
the tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import asyncpg
import pytest
from pglast import ast
from pglast.stream import RawStream
from pglast.visitors import Visitor

from cgworker.kernel.store.claims.finish import FINISH_TURN, FINISH_TURNS
from cgworker.kernel.store.claims.finish_and_claim import (
    FINISH_AND_CLAIM_TURN,
    FINISH_AND_CLAIM_TURNS,
)
from cgworker.kernel.store.ledger import CREATE_HEAD, LOCK_HEAD, NUMBER_EVENTS
from cgworker.kernel.store.postgres.database import PLAN_ONCE
from tests.databases import a_database
from tests.kernel.one_project import parse
from tests.kernel.plans import Scan, plan_of, scans_of
from tests.kernel.test_one_project import FUNCTIONS, statements
from tests.kernel.test_statements import LARGE, SQL

# Planned for the values and the tables at hand, so that a plan for any says nothing.
PLANNED_EACH_TIME = (
    "store.projections.LIST_AGENTS",
    "store.projections.LIST_OFFERING_AGENTS",
    "store.projections.LIST_TURNS",
    "store.purge.COUNT_PURGEABLE",
    "store.moves.FORGET_ROWS.",
)

# Statements that read an index from its beginning, with the reason.
WALKS = {
    ("store.due.FIND_NEXT_DUE", "cg_turns_due"): "the first",
    ("store.due.FIND_NEXT_DUE", "cg_schedules_due"): "the first",
    ("store.ledger.HAS_UNNUMBERED", "cg_ledger_unnumbered"): "whether there is one",
    ("store.ledger.NUMBER_EVENTS", "cg_ledger_unnumbered"): "the first ones, which it takes out of the index",
    ("store.ledger.LIST_UNNUMBERED_PROJECTS", "cg_ledger_unnumbered"): "the first of each project",
    ("store.turns.QUEUE_STOPPED", "cg_ledger_unnumbered"): "events get their numbers within a second",
    ("store.due.COUNT_DUE", "cg_turns_due"): "counts them, for /metrics",
    ("store.backlog.COUNT_OPEN_TURNS", "cg_turns_open"): "counts them, for /metrics",
    ("store.backlog.COUNT_TURNS_OF_AGENTS", "cg_turns_by_fairness_key"): "counts them, for /metrics",
    ("store.backlog.COUNT_TURNS_OF_AGENTS", "cg_turns_running"): "counts them, for /metrics",
    ("store.invites.LIST_INVITES", "cg_invites_by_project"): "lists them, for an operator",
    ("store.invites.REVOKE_INVITE", "cg_invites_by_project"): "an operator's, one at a time; there are few",
    ("store.purge.PURGE_CREDENTIALS", "cg_credentials_revoked"): "few are ever revoked",
    ("store.retention.PURGE_CREDENTIALS", "cg_credentials_revoked"): "few are ever revoked",
    ("store.purge.PURGE_KEYS", "cg_idempotency_keys_pkey"): "an operator's: all keys of a project, once",
}
EXPORTS = "store.project_copy.EXPORT_ROWS."  # all rows of a project, which a bitmap may bring


async def test_every_statement_finds_its_rows_by_their_whole_key_in_a_new_database(dsn: str) -> None:
    """Nothing has been dispatched yet, and nothing analyzed."""
    assert await faults_of_plans(dsn) == {}


@pytest.mark.timeout(300)
async def test_they_still_do_when_it_has_grown_and_was_not_analyzed(grown: str) -> None:
    """A kernel that starts now plans for a table of which only the size is known."""
    assert await faults_of_plans(grown) == {}


async def test_sets_of_a_statement_are_not_compared_each_with_each(dsn: str) -> None:
    """Also while PostgreSQL knows nothing of the tables, and takes each set to be one row."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(PLAN_ONCE)
    both = await plan_of(connection, FINISH_AND_CLAIM_TURNS)
    async with connection.transaction():
        await connection.execute(CREATE_HEAD, "young")
        await connection.execute(LOCK_HEAD, "young")
        numbering = await plan_of(connection, NUMBER_EVENTS)
    await connection.close()
    assert _repeated_sets(both) & {"closed", "claimed", "next"} == set()
    assert _repeated_sets(numbering) == set()
    found_by = [scan.found_by for scan in scans_of(numbering) if scan.index == "cg_ledger_unnumbered"]
    assert {"project_id", "event_id"} in found_by


@pytest.mark.parametrize(
    "statement", [FINISH_AND_CLAIM_TURN, FINISH_AND_CLAIM_TURNS, FINISH_TURN, FINISH_TURNS]
)
async def test_payloads_are_not_carried_from_step_to_step(dsn: str, statement: str) -> None:
    """They may be large, and each step would copy them: only what is inserted has them."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(PLAN_ONCE)
    nodes = list(_nodes(await plan_of(connection, statement)))
    await connection.close()
    (payloads,) = set(re.findall(r"(\$\d+)::json\[\]", statement))
    having = [node for node in nodes if any(payloads in text for text in node.get("Output", ()))]
    assert [node["Node Type"] for node in nodes if payloads in str(node.get("Function Call"))] == []
    assert len(having) == 1
    assert [node["Operation"] for node in nodes if having[0] in node.get("Plans", ())] == ["Insert"]


def _repeated_sets(plan: Mapping[str, Any]) -> set[str]:
    """The sets that are read once for each row of another, to be compared with it."""
    return {
        inner["CTE Name"]
        for node in _nodes(plan)
        if node["Node Type"] == "Nested Loop" and "Join Filter" in node
        for inner in _nodes(node["Plans"][1])
        if "CTE Name" in inner
    }


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


@pytest.fixture
def grown_dsn(postgres: str, template: str) -> Iterator[str]:
    """A database of its own."""
    with a_database(postgres, template=template) as dsn:
        yield dsn


@pytest.fixture
async def grown(grown_dsn: str) -> str:
    """A database with 100,000 turns and no statistics."""
    connection = await asyncpg.connect(grown_dsn, command_timeout=200)
    for row in await connection.fetch(KEYS):
        await connection.execute(f"alter table {row['table_name']} set (autovacuum_enabled = off)")
    await connection.execute(LARGE.replace("200000", "100000").replace("1000000", "100000"))
    await connection.close()
    return grown_dsn


async def faults_of_plans(dsn: str) -> dict[str, list[str]]:
    """What is wrong with the plans of all statements, by the statement's name."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(PLAN_ONCE)
    keys = {row["table_name"]: frozenset(row["columns"]) for row in await connection.fetch(KEYS)}
    assert {"cg_turns", "cg_ledger", "cg_records", "cg_schedules"} <= keys.keys()
    array_helps = connection.get_server_version().major >= 17
    found = {}
    for name, sql in (statements() | in_functions()).items():
        if (
            SQL.match(sql)
            and (array_helps or " any (" not in sql)
            and not name.startswith((*PLANNED_EACH_TIME, EXPORTS))
        ):
            scans = [scan for scan in scans_of(await plan_of(connection, sql)) if scan.table in keys]
            faults = [scan.fault(keys[scan.table]) for scan in scans if not is_walk(name, scan)]
            found[name] = [fault for fault in faults if fault is not None]
    await connection.close()
    return {name: faults for name, faults in found.items() if faults}


def is_walk(name: str, scan: Scan) -> bool:
    """Whether the statement may read that index from its beginning."""
    return (name, scan.index) in WALKS


# The columns of the indexes of each table that can grow: of which a project has more than one row.
KEYS = r"""
select c.relname as table_name, array_agg(distinct a.attname::text) as columns
from pg_class c
join pg_index i on i.indrelid = c.oid
join pg_attribute a on a.attrelid = c.oid and a.attnum = any (i.indkey)
where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and c.relname like 'cg\_%'
group by c.relname
having count(distinct a.attname) > 1
"""

# These are planned by themselves, not as a part of who calls them.
PLANNED_APART = ("cg_state_of_key", "cg_must_wait", "cg_free_key")


def in_functions() -> dict[str, str]:
    """The statements of those functions of the schema."""
    return {
        f"{name}, statement {place}": _with_parameters(query, FUNCTIONS[name].parameters)
        for name in PLANNED_APART
        for place, query in enumerate(FUNCTIONS[name].queries, 1)
    }


def _with_parameters(query: Any, names: Sequence[str]) -> str:
    """The statement with parameters in place of the function's, and of what it has read into `next`."""
    variables: list[str] = []

    class Replacing(Visitor):
        def visit_ColumnRef(self, _: object, node: Any) -> Any:  # noqa: N802  # the visitor's name for it
            name = ".".join(getattr(each, "sval", "*") for each in node.fields)
            if name not in names and not name.startswith("next."):
                return None
            if name not in variables:
                variables.append(name)
            return ast.ParamRef(number=variables.index(name) + 1)

    [copied] = parse(RawStream()(query))
    Replacing()(copied)
    return str(RawStream()(copied))


# ---------------------------------------------------------------- the reader


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("select from cg_turns where state = $1", "read through"),
        ("select from cg_turns where project_id = $1 and spawn_key = $2", "looked for by spawn_key"),
        ("select from cg_turns where project_id = $1", "all of"),
        (
            "select from unnest($2::bigint[]) n join cg_records on project_id = $1 and turn_number = n",
            "looked for by turn_number",
        ),
    ],
)
async def test_a_statement_that_does_not_is_found(dsn: str, statement: str, fault: str) -> None:
    """The reader of plans is not deceived."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("set plan_cache_mode = force_generic_plan")
    [scan] = scans_of(await plan_of(connection, statement))
    await connection.close()
    assert fault in (scan.fault(frozenset({"project_id", "turn_number", "spawn_key"})) or "")
