"""The store's statements: each fits the schema, and no busy one reads a large table through."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from attrs import evolve

import cgworker.kernel
from cgworker.kernel.app import open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.store.postgres.database import Connection, Database
from cgworker.kernel.store.postgres.statistics import analyze_grown
from tests.databases import a_database
from tests.kernel.parked import WAIT, waiting
from tests.kernel.project import Project, client_of, token_of
from tests.poolers import needs_own_connections

LARGE = (Path(__file__).parent / "large.sql").read_text()
TABLES = (
    "cg_turns",
    "cg_records",
    "cg_ledger",
    "cg_spawns",
    "cg_agents",
    "cg_credentials",
    "cg_idempotency_keys",
)
SQL = re.compile(r"\s*(select|with|insert|update|delete|\()\b", re.IGNORECASE)

# Run by an operator, now and then; and planned for the values at hand, so that a plan for any says nothing.
SELDOM = ("store.purge.", "store.migrate.")
PLANNED_EACH_TIME = (
    "store.projections.LIST_AGENTS",
    "store.projections.LIST_OFFERING",
    "store.projections.LIST_TURNS",
)


def statements() -> dict[str, str]:
    """Every SQL constant of the kernel, by module and name."""
    return {
        f"{module.name.removeprefix('cgworker.kernel.')}.{name}": value
        for module in pkgutil.walk_packages(cgworker.kernel.__path__, "cgworker.kernel.")
        for name, value in vars(importlib.import_module(module.name)).items()
        if name.isupper() and isinstance(value, str) and SQL.match(value)
    }


async def test_every_statement_fits_the_schema(dsn: str) -> None:
    """PostgreSQL accepts each, with the types of all parameters known."""
    found = statements()
    assert {
        "store.claims.claim.CLAIM_TURNS",
        "store.turns.GET_TURN",
        "store.keys.FORGET_KEY",
    } <= found.keys()
    connection = await asyncpg.connect(dsn)
    for name, statement in found.items():
        try:
            await connection.prepare(statement)
        except asyncpg.PostgresError as refused:
            pytest.fail(f"{name}: {refused}")
    await connection.close()


async def test_asking_the_clock_costs_nothing(dsn: str) -> None:
    """Every statement asks the kernel's clock, and its plan is that of PostgreSQL's own functions."""
    found = statements()
    assert [name for name, text in found.items() if _PLAIN_CLOCK.search(text)] == []
    asking = {name: text for name, text in found.items() if "cg_now()" in text or "cg_clock()" in text}
    assert {"store.claims.claim.CLAIM_TURNS", "store.claims.dispatch.DISPATCH_TURNS"} <= asking.keys()
    connection = await asyncpg.connect(dsn)
    await connection.execute("set plan_cache_mode = force_generic_plan")
    differing = [
        name
        for name, text in asking.items()
        if _without_names(await _plan_of(connection, text))
        != await _plan_of(connection, _with_plain_clock(text))
    ]
    await connection.close()
    assert differing == []


def _without_names(plan: Any) -> Any:
    """The plan, with the names that columns have got from PostgreSQL's own functions."""
    return json.loads(json.dumps(plan).replace(".cg_clock", ".clock_timestamp").replace(".cg_now", ".now"))


def _with_plain_clock(statement: str) -> str:
    return statement.replace("cg_now()", "now()").replace("cg_clock()", "clock_timestamp()")


_PLAIN_CLOCK = re.compile(r"(?<![a-z_.])(now|clock_timestamp|statement_timestamp)\(\)")


# ---------------------------------------------------------------- on large tables


@pytest.fixture(scope="module")
def large_dsn(postgres: str, template: str) -> Iterator[str]:
    """A database of its own: what is in it is told in large.sql."""
    with a_database(postgres, template=template) as dsn:
        yield dsn


@pytest.fixture(scope="module")
async def large(large_dsn: str) -> AsyncIterator[Connection]:
    """A connection to 200,000 turns and 1,000,000 events."""
    connection = await asyncpg.connect(large_dsn, command_timeout=100)
    for table in TABLES:  # what vacuum reads would be counted as ours
        await connection.execute(f"alter table {table} set (autovacuum_enabled = off)")
    indexes = await _drop_indexes(connection)
    await connection.execute(LARGE)
    for index in indexes:
        await connection.execute(index)
    await connection.execute("analyze")
    yield connection
    await connection.close()


async def _drop_indexes(connection: Connection) -> list[str]:
    """Drop those of the two largest tables, which fill quicker so; returns how to make them again."""
    rows = await connection.fetch(
        """
        select indexname, indexdef from pg_indexes
        where tablename in ('cg_ledger', 'cg_turns') and indexname !~ '_(key|pkey)$'
        """
    )
    for row in rows:
        await connection.execute(f'drop index "{row["indexname"]}"')
    return [row["indexdef"] for row in rows]


@pytest.mark.timeout(300)
async def test_no_plan_reads_a_large_table_through(large: Connection) -> None:
    """The plan that is kept for any values uses an index wherever a table can grow, and by its own choice."""
    await large.execute("set plan_cache_mode = force_generic_plan")
    through = {}
    for name, statement in statements().items():
        if not name.startswith((*SELDOM, *PLANNED_EACH_TIME)):
            plan = await _plan_of(large, statement)
            through[name] = [
                node["Relation Name"] for node in _nodes(plan) if node["Node Type"] == "Seq Scan"
            ]
    assert {name: tables for name, tables in through.items() if set(tables) & set(TABLES)} == {}


async def _plan_of(connection: Connection, statement: str) -> Any:
    count = max((int(number) for number in re.findall(r"\$(\d+)", statement)), default=0)
    await connection.execute(f"prepare examined as {statement}")
    values = f"({', '.join(['null'] * count)})" if count else ""
    plan = await connection.fetchval(f"explain (verbose, format json) execute examined {values}")
    await connection.execute("deallocate examined")
    return json.loads(plan)[0]["Plan"]


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


LOOKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("turns/{turn}", {}),
    ("turns/{turn}/context", {}),
    ("turns/{turn}/feed", {}),
    ("projection/turns/{turn}/lineage", {}),
    ("agents/worker", {}),
    ("agents/worker/feed", {"limit": 20}),
    ("agents/worker/credentials", {}),
    ("projection/feed", {"after_ledger_seq": 500_000, "limit": 20}),
    ("projection/turns", {"limit": 20}),
    ("projection/turns", {"limit": 20, "target_agent_id": "agent-7"}),
    ("projection/turns", {"limit": 20, "target_agent_id": "nobody"}),
    ("projection/turns", {"limit": 20, "state": "queued"}),
    ("projection/turns", {"limit": 20, "state": "nonsense"}),
    ("projection/turns", {"limit": 20, "outcome": "failed"}),
    ("projection/turns", {"limit": 20, "turn_kind": "nothing"}),
    ("projection/turns", {"limit": 20, "stop_requested_only": True}),
    ("projection/agents", {"limit": 20}),
    ("projection/agents", {"limit": 20, "agent_id": "agent-7"}),
    ("projection/agents", {"limit": 20, "capability": "kind-7"}),
    ("projection/turn-offers", {"limit": 20}),
)


@needs_own_connections
@pytest.mark.timeout(300)
async def test_the_busy_routes_touch_few_rows(large: Connection, large_dsn: str) -> None:
    """What is read is about what is answered, however much there is."""
    before = await _rows_read(large)
    async with (
        Database.open(large_dsn) as database,
        open_kernel(_CONFIG, database) as kernel,
        client_of(kernel) as c,
    ):
        asked = await _use(Project(kernel, c, "big"), count=3)
    rows = {table: count - before[table] for table, count in (await _rows_read(large)).items()}
    assert sum(rows.values()) / asked < 30, rows


@needs_own_connections
@pytest.mark.timeout(300)
async def test_plans_made_while_all_was_empty_do_not_stay(dsn: str) -> None:
    """Autovacuum takes a minute to see that tables have grown, the kernel's reaper a moment."""
    connection = await asyncpg.connect(dsn, command_timeout=100)
    for table in TABLES:  # or plans would be made anew, some time
        await connection.execute(f"alter table {table} set (autovacuum_enabled = off)")
    async with Database.open(dsn) as database:
        async with open_kernel(_CONFIG, database) as kernel, client_of(kernel) as c:
            await _use(Project(kernel, c, "small"), count=12)
        # No kernel looks meanwhile: it would analyze tables whose new rows are not committed yet.
        await connection.execute(LARGE.replace("200000", "20000").replace("1000000", "20000"))
        await analyze_grown(database)
        before = await _rows_read(connection)
        async with open_kernel(_CONFIG, database) as kernel, client_of(kernel) as c:
            asked = await _use(Project(kernel, c, "big"), count=12)
    rows = {table: count - before[table] for table, count in (await _rows_read(connection)).items()}
    await connection.close()
    assert sum(rows.values()) / asked < 30, rows


@needs_own_connections
async def test_a_claim_walks_past_no_turn_of_another_agent(dsn: str) -> None:
    """Also while nothing is known of the table, when a list's index looks as good as the claim's own."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("alter table cg_turns set (autovacuum_enabled = off)")
    async with _opened(dsn, "walked") as project:
        requester, busy, worker = [await project.agent(name) for name in ("requester", "busy", "worker")]
        for _ in range(100):
            await requester.dispatch(busy)
    before = await _rows_read(connection)
    async with _opened(dsn, "walked") as project:
        requester, worker = evolve(requester, project=project), evolve(worker, project=project)
        for _ in range(20):
            await requester.dispatch(worker)
            await worker.finish(await worker.claim())
    read = (await _rows_read(connection))["cg_turns"] - before["cg_turns"]
    await connection.close()
    assert read / 20 < 10


@needs_own_connections
async def test_many_dispatches_look_up_their_place_in_the_fair_order_once(dsn: str) -> None:
    """Each lookup after the first would walk past the turns that the statement has added itself."""
    connection = await asyncpg.connect(dsn)
    async with _opened(dsn, "placed") as project:
        requester, worker = await project.agent("requester"), await project.agent("worker")
        before = await _searches(connection)
        items = [requester.dispatching(worker, f"k{place}") for place in range(40)]
        await requester.post("turns:dispatch-many", {"items": items})
    searches = await _searches(connection) - before
    await connection.close()
    assert 0 < searches < 5


async def _searches(connection: Connection) -> int:
    """How often the index of the fair order was searched; others who searched have gone by now."""
    await connection.execute(_TELL)
    await connection.execute("select pg_stat_clear_snapshot()")
    count: int = await connection.fetchval(
        "select idx_scan from pg_stat_user_indexes where indexrelname = 'cg_turns_by_fairness_key'"
    )
    return count


def test_no_claim_can_be_planned_as_a_walk_over_a_list() -> None:
    """Lists have indexes that only statements with `turn_number > 0` can use; what claims run has none.

    With it, PostgreSQL looked for an agent's due turns among all that the agent has ended.
    """
    found = statements()
    claiming = (
        "claims.claim.CLAIM_TURN",
        "claims.claim.CLAIM_TURNS",
        "claims.finish_and_claim.FINISH_AND_CLAIM_TURN",
        "claims.finish_and_claim.FINISH_AND_CLAIM_TURNS",
        "claims.hand_over.HAND_OVER_TURN",
        "due.WAKE_AGENT",
    )
    assert [name for name in claiming if "turn_number > 0" in found[f"store.{name}"]] == []


_CONFIG = KernelConfig(claim_reaper_interval_seconds=0)


@asynccontextmanager
async def _opened(dsn: str, project_id: str) -> AsyncIterator[Project]:
    """A project on a kernel of its own; once it is closed, the statistics have all that it read."""
    async with (
        Database.open(dsn) as database,
        open_kernel(_CONFIG, database) as kernel,
        client_of(kernel) as client,
    ):
        yield Project(kernel, client, project_id)


async def _use(project: Project, *, count: int) -> int:
    """Use all busy routes so many times; returns how many requests that were."""
    requester, worker = await project.agent("requester"), await project.agent("worker", capacity=9)
    idle = await project.agent("idle")
    for _ in range(count):
        turn_id = await requester.dispatch(worker)
        claim = await worker.claim({"Prefer": "return=representation", "Idempotency-Key": turn_id})
        authority = {"mode": "child_derivation", "parent_claim": token_of(claim)}
        await worker.append(claim, 1, {"Idempotency-Key": turn_id})
        await worker.renew(claim)
        await worker.dispatch(requester, authority=authority)
        await worker.suspend(claim)
        await worker.resume(turn_id)
        await worker.finish(await worker.claim(), final_payload=1)
        await worker.claim()
        await worker.post("claims:reconcile-expired", {})
        await worker.stop(turn_id)
        waiter = await waiting(idle, {**WAIT, "Idempotency-Key": turn_id})
        await requester.dispatch(idle)  # handed over
        await idle.finish(await waiter.claim())
        for path, query in LOOKS:
            await worker.get(path.format(turn=turn_id), **query)
    return count * (14 + len(LOOKS))


# A session tells the statistics what it has done once a second at most, and now.
_TELL = "select pg_stat_force_next_flush()"


async def _rows_read(connection: Connection) -> dict[str, int]:
    """Rows of each large table that were ever looked at; others who looked have gone by now."""
    await connection.execute(_TELL)
    await connection.execute("select pg_stat_clear_snapshot()")
    rows = await connection.fetch(
        """
        select relname, seq_tup_read + idx_tup_fetch as read
        from pg_stat_user_tables
        where relname = any ($1)
        """,
        TABLES,
    )
    return {row["relname"]: row["read"] for row in rows}
