"""Connections that have just been used are used again, without a way through the pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from cgworker.errors import CommonGroundError
from cgworker.kernel.store.postgres import kept_connections
from cgworker.kernel.store.postgres.database import Database
from tests.kernel.parked import until

PROCESS = "select pg_backend_pid()"


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    async with Database.open(dsn, pool_size=2) as database:
        yield database


@pytest.fixture
def acquired(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The times that a connection was taken out of a pool."""
    found: list[Any] = []
    acquire = asyncpg.Pool.acquire

    def noted(*given: Any, **options: Any) -> Any:
        found.append(options)
        return acquire(*given, **options)

    monkeypatch.setattr(asyncpg.Pool, "acquire", noted)
    return found


async def test_statements_one_after_the_other_take_one_connection_once(
    database: Database, acquired: list[Any]
) -> None:
    processes = {await database.fetchval(PROCESS) for _ in range(20)}
    assert (len(processes), len(acquired)) == (1, 1)
    assert database.used_count == 0


async def test_more_statements_at_once_than_connections_are_all_answered(database: Database) -> None:
    """Who waits gets the connection that is free first."""
    answers = await asyncio.gather(*(database.fetchval("select $1::int", number) for number in range(40)))
    assert answers == list(range(40))
    assert (database.used_count, database.open_count) == (0, 2)


async def test_a_connection_that_was_lost_meanwhile_is_not_used(database: Database, dsn: str) -> None:
    process = await database.fetchval(PROCESS)
    plain = await asyncpg.connect(dsn)
    await plain.execute("select pg_terminate_backend($1)", process)
    await plain.close()
    await asyncio.sleep(0.2)  # until the kernel's end has heard of it
    assert await database.fetchval(PROCESS) != process


async def test_a_connection_is_returned_after_an_error_or_a_cancelled_statement(
    database: Database, acquired: list[Any]
) -> None:
    """asyncpg sees to what is left open."""
    for trouble in ("select 1/0", "select * from no_such_table"):
        with pytest.raises(CommonGroundError):
            await database.fetch(trouble)
    sleeping = asyncio.create_task(database.fetch("select pg_sleep(60)"))
    await until(lambda: database.used_count == 1)
    sleeping.cancel()
    await asyncio.wait([sleeping])
    assert await database.fetchval("select 1") == 1
    assert len(acquired) == 4


async def test_a_connection_is_kept_out_of_the_pool_for_a_while_only(
    database: Database, acquired: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool closes what is not used, and renews what is used much."""
    monkeypatch.setattr(kept_connections, "KEEP_SECONDS", 0.05)
    await database.fetchval("select 1")
    await until(lambda: database._pool.get_idle_size() == 1)  # noqa: SLF001  # nobody else can tell
    await database.fetchval("select 1")
    await database.fetchval("select pg_sleep(0.1)")  # for longer than a connection is kept
    assert database._pool.get_idle_size() == 1  # noqa: SLF001  # it was out for long, and went back at once
    assert len(acquired) == 2
