"""The ledger's numbers: given after the commit, by one at a time, so that no follower misses an event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from cgworker.kernel.store import ledger
from cgworker.kernel.store.ledger import LOCK_HEAD, NUMBER_EVENTS, number_all, project_events
from cgworker.kernel.store.postgres.database import Connection, Database

ADD_EVENT = """
insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
    annotations, agent_id)
values ($1, $2, 'agent', 'a', 'agent', 'a', '{}', 'a')
"""


@pytest.fixture
async def writer(dsn: str) -> AsyncIterator[Connection]:
    """A connection whose transactions the test opens and closes."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def read(database: Database, project_id: str, after: int = 0) -> list[tuple[int, str]]:
    rows = await project_events(database, project_id, after=after, limit=100)
    return [(row["ledger_seq"], row["event_type"]) for row in rows]


async def test_what_commits_late_is_seen_late_and_not_missed(database: Database, writer: Connection) -> None:
    """An event that was written first and committed last comes after what a follower has seen by then."""
    async with writer.transaction():
        await writer.execute(ADD_EVENT, "late", "written first")
        await database.execute(ADD_EVENT, "late", "written second")
        assert await read(database, "late") == [(1, "written second")]
    assert await read(database, "late", after=1) == [(2, "written first")]


async def test_a_reader_waits_for_who_is_numbering(database: Database, writer: Connection) -> None:
    """Numbers of an uncommitted numbering are never given again, nor jumped over."""
    await database.execute(ADD_EVENT, "turns", "one")
    assert await read(database, "turns") == [(1, "one")]
    await database.execute(ADD_EVENT, "turns", "two")
    async with writer.transaction():
        await writer.execute(LOCK_HEAD, "turns")
        await writer.execute(NUMBER_EVENTS, "turns", 10)
        await database.execute(ADD_EVENT, "turns", "three")
        reading = asyncio.create_task(read(database, "turns"))
        await _until_locked_out(database)
        assert not reading.done()
    assert await reading == [(1, "one"), (2, "two"), (3, "three")]


async def _until_locked_out(database: Database) -> None:
    statement = "select exists (select from pg_stat_activity where wait_event_type = 'Lock')"
    while not await database.fetchval(statement):  # noqa: ASYNC110  # PostgreSQL tells nobody
        await asyncio.sleep(0.005)


async def test_a_numbering_that_fails_leaves_no_gap(database: Database, writer: Connection) -> None:
    """What is rolled back is numbered again, with the same numbers."""
    for name in ("one", "two"):
        await database.execute(ADD_EVENT, "failed", name)
    await database.execute(ledger.CREATE_HEAD, "failed")
    failing = writer.transaction()
    await failing.start()
    await writer.execute(LOCK_HEAD, "failed")
    assert await writer.fetchval(NUMBER_EVENTS, "failed", 10) == 2
    await failing.rollback()
    assert await read(database, "failed") == [(1, "one"), (2, "two")]


async def test_a_long_backlog_is_numbered_in_batches(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many have come together, each batch is a short transaction, and the order holds over all."""
    monkeypatch.setattr(ledger, "_BATCH", 3)
    for n in range(10):
        await database.execute(ADD_EVENT, "backlog", str(n))
    assert await read(database, "backlog") == [(n + 1, str(n)) for n in range(10)]


async def test_projects_are_numbered_apart(database: Database) -> None:
    """Every project counts from one; the reaper numbers those that nobody reads."""
    for project_id in ("apart-a", "apart-b", "apart-a"):
        await database.execute(ADD_EVENT, project_id, "event")
    await number_all(database)
    rows = await database.fetch(
        "select project_id, ledger_seq from cg_ledger where project_id like 'apart-%' order by 1, 2"
    )
    assert [tuple(row) for row in rows] == [("apart-a", 1), ("apart-a", 2), ("apart-b", 1)]
