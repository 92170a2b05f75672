"""The pool: what the database's end looks like to who uses it just then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from cgworker.errors import KernelOverloaded
from cgworker.kernel.store.postgres.database import Connection, Database
from cgworker.kernel.store.postgres.pooling import Pooling

_TURNS_OF_THE_LOOP = 20


async def test_a_connection_that_has_only_heard_of_its_end_is_a_503(dsn: str) -> None:
    """PostgreSQL says that it goes before it hangs up: a request in between is told to come again."""
    hung_up = asyncio.Event()
    async with _never_hanging_up(dsn, hung_up) as through, Database.open(through, pool_size=1) as database:
        pid = await database.fetchval("select pg_backend_pid()")
        await _end_backend(dsn, pid)
        await hung_up.wait()
        for _ in range(_TURNS_OF_THE_LOOP):  # until its last words have been read
            await asyncio.sleep(0)
        with pytest.raises(KernelOverloaded) as told:
            await database.fetchval("select 1")
        assert told.value.status == 503
        assert await database.fetchval("select 2") == 2


@pytest.mark.parametrize("is_transaction", [False, True])
async def test_a_cancellation_is_not_taken_for_trouble_with_the_database(
    database: Database, *, is_transaction: bool
) -> None:
    """It ends the connection, so that a transaction cannot be rolled back; a task that ends would go on."""
    begun = asyncio.Event()

    async def sleep(connection: Connection) -> None:
        begun.set()
        await connection.execute("select pg_sleep(2)")

    def sleep_alone() -> Coroutine[Any, Any, Any]:
        begun.set()
        return database.fetch("select pg_sleep(2)")

    task = asyncio.create_task(database.transact(sleep) if is_transaction else sleep_alone())
    await begun.wait()
    for _ in range(_TURNS_OF_THE_LOOP):  # until the statement is under way
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _end_backend(dsn: str, pid: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        assert await connection.fetchval("select pg_terminate_backend($1)", pid)
    finally:
        await connection.close()


@asynccontextmanager
async def _never_hanging_up(dsn: str, hung_up: asyncio.Event) -> AsyncIterator[str]:
    """An address that passes everything on to the database, but not that it hangs up."""
    passing: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await _connect(dsn)
        both = [_pass(reader, to_server), _pass(from_server, writer, ended=hung_up)]
        passing.update(asyncio.create_task(way) for way in both)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    user, database = urlsplit(dsn).username, urlsplit(dsn).path
    try:
        yield f"postgresql://{user}@{host}:{port}{database}?sslmode=disable"
    finally:
        server.close()
        for way in passing:
            way.cancel()
        await asyncio.gather(*passing, return_exceptions=True)


async def _connect(dsn: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(dsn)
    folder = parse_qs(address.query).get("host")
    if folder:
        return await asyncio.open_unix_connection(f"{folder[0]}/.s.PGSQL.5432")
    return await asyncio.open_connection(address.hostname, address.port or 5432)


async def _pass(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, *, ended: asyncio.Event | None = None
) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
        if ended is not None:
            ended.set()
            await asyncio.Event().wait()  # the other side is not told
    finally:
        target.close()
        with suppress(OSError):
            await target.wait_closed()


async def test_large_payloads_are_compressed_by_lz4_where_the_server_has_it(dsn: str) -> None:
    """PostgreSQL's own compression takes ten times as long."""
    async with Database.open(dsn) as database:
        known = await database.fetchval(
            "select enumvals from pg_settings where name = 'default_toast_compression'"
        )
        used = await database.fetchval("show default_toast_compression")
    assert used == ("lz4" if "lz4" in known and database.pooling is not Pooling.TRANSACTION else "pglz")
