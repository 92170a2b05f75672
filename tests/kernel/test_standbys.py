"""A primary with a synchronous standby: what the standby does not have is neither answered nor seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import anyio
import asyncpg
import httpx
import pytest

from cgworker.errors import KernelOverloaded
from cgworker.kernel.app import open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.store.postgres import database as pools
from cgworker.kernel.store.postgres.database import Database
from cgworker.kernel.store.postgres.hosts import Hosts
from tests.kernel.project import Project, client_of
from tests.poolers import needs_own_settings

WAITING = """
select count(*) from pg_stat_activity where wait_event = 'SyncRep' and datname = current_database()
"""

# It asks for the wait itself, since a pooler may have connections from before `a_standby`.
INSERT = """
with waiting as (select set_config('synchronous_commit', 'on', true))
insert into given_up select 1 from waiting
"""

Switch = Callable[[bool], Awaitable[None]]


@asynccontextmanager
async def a_standby(postgres: str, dsn: str) -> AsyncIterator[Switch]:
    """Let the database wait for a standby at each commit; yields what takes the standby away and back.

    Other databases of the server wait for nobody: their commits are asynchronous.
    """
    name = urlsplit(dsn).path.lstrip("/")
    operator = await asyncpg.connect(postgres)

    async def be_there(is_there: bool) -> None:
        names = "" if is_there else "nobody"
        await operator.execute(f"alter system set synchronous_standby_names = '{names}'")
        await operator.execute("select pg_reload_conf()")
        with anyio.fail_after(30):
            while await operator.fetchval("show synchronous_standby_names") != names:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    await operator.execute("set synchronous_commit = off")
    await operator.execute(f'alter database "{name}" set synchronous_commit = on')
    try:
        yield be_there
    finally:
        await operator.execute("alter system reset synchronous_standby_names")
        await operator.execute("select pg_reload_conf()")
        await operator.execute(f'alter database "{name}" reset synchronous_commit')
        await operator.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel gives up after a moment."""
    monkeypatch.setattr(pools, "_GIVE_UP_SECONDS", 0.5)
    monkeypatch.setattr(pools, "_ACQUIRE_SECONDS", 0.5)


@pytest.mark.usefixtures("impatient")
async def test_a_finish_that_no_standby_has_is_not_answered_by_its_repeat(postgres: str, dsn: str) -> None:
    """It would be lost with the primary: given up, it must not become visible."""
    config = KernelConfig(pg_dsn=dsn, claim_reaper_interval_seconds=0)
    async with (
        a_standby(postgres, dsn) as be_there,
        Database.open(dsn, pool_size=2) as database,
        open_kernel(config, database) as kernel,
        client_of(kernel) as client,
    ):
        worker = await Project(kernel, client).agent("worker")
        await worker.dispatch(worker)
        claim = await worker.claim()
        await be_there(False)
        for _ in range(3):
            assert (await worker.finish(claim)).status_code == 503
        await be_there(True)
        answer = await answered(lambda: worker.finish(claim))
        assert answer.status_code == 200


async def answered(ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """The first answer but 503."""
    with anyio.fail_after(60):
        while (answer := await ask()).status_code == 503:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.02)
    return answer


async def test_a_statement_given_up_by_its_caller_is_not_seen_before_a_standby_has_it(
    postgres: str, dsn: str
) -> None:
    async with a_standby(postgres, dsn) as be_there, Database.open(dsn, pool_size=1) as database:
        await database.execute("create table given_up (n int)")
        await be_there(False)
        insert = asyncio.create_task(database.execute(INSERT))
        observer = await asyncpg.connect(dsn)
        await waits(observer)
        insert.cancel()
        await asyncio.gather(insert, return_exceptions=True)
        await waits(observer)
        assert await observer.fetchval("select count(*) from given_up") == 0
        await be_there(True)
        await observer.close()


async def waits(observer: asyncpg.Connection[asyncpg.Record]) -> None:
    """Wait until a commit of this database waits for a standby."""
    with anyio.fail_after(30):
        while not await observer.fetchval(WAITING):  # noqa: ASYNC110  # it can only be asked
            await asyncio.sleep(0.01)


async def test_a_primary_whose_commits_wait_is_not_connected_to(postgres: str, dsn: str) -> None:
    """As an old primary that was started again: what it has and its standby has not must not be read."""
    async with a_standby(postgres, dsn) as be_there:
        await be_there(False)
        with pytest.raises(TimeoutError):
            await Hosts(dsn).connect(timeout=0.3)
        observer = await asyncpg.connect(dsn)
        with anyio.fail_after(30):
            while await observer.fetchval(WAITING):  # noqa: ASYNC110  # nothing stays behind
                await asyncio.sleep(0.01)
        await observer.close()


@needs_own_settings
async def test_a_server_that_takes_no_writes_any_more_is_left(dsn: str) -> None:
    """As one behind a proxy: the next connection may lead to another."""
    async with Database.open(dsn, pool_size=1) as database:
        await database.execute("create table written (n int)")
        await database.execute("set default_transaction_read_only = on")
        with pytest.raises(KernelOverloaded):
            await database.execute("insert into written values (1)")
        await database.execute("insert into written values (1)")
