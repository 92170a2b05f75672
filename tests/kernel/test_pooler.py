"""A kernel behind PgBouncer in its two modes: the real one, where it is installed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import anyio
import asyncpg
import pytest
from attrs import evolve

from cgworker.kernel.app import open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.long_poll import notifier
from cgworker.kernel.long_poll.notifier import Notifier
from cgworker.kernel.store.postgres.connect import describe_server, open_database
from cgworker.kernel.store.postgres.database import Database
from cgworker.kernel.store.postgres.hosts import Hosts
from cgworker.kernel.store.postgres.pooling import Pooling, find_pooling
from tests.kernel.project import Project, client_of
from tests.poolers import a_pooler, needs_pgbouncer


@pytest.fixture(scope="module")
def pooled(dsn: str) -> Iterator[str]:
    """The module's database, through a pooler in session mode."""
    with a_pooler(dsn, "session") as address:
        yield address


@pytest.fixture(scope="module")
def shared(dsn: str) -> Iterator[str]:
    """The module's database, through a pooler in transaction mode."""
    with a_pooler(dsn, "transaction", pool_size=2) as address:
        yield address


_LISTENERS = "select count(*) from pg_locks where locktype = 'advisory' and mode = 'ShareLock' and granted"
_SETTINGS = """
select string_agg(setting, ' ' order by name) from pg_settings
where name in ('enable_seqscan', 'jit', 'plan_cache_mode', 'TimeZone')
"""


async def until(database: Database, question: str, answer: object) -> None:
    """Wait for a connection that is made in the background."""
    with anyio.fail_after(20):
        while await database.fetchval(question) != answer:  # noqa: ASYNC110  # it can only be asked
            await anyio.sleep(0.02)


@needs_pgbouncer
async def test_a_turn_runs_behind_a_session_pooler(pooled: str) -> None:
    """From the migration to the turn's end; the news of one kernel reaches who waits at another."""
    config = KernelConfig(pg_dsn=pooled, claim_reaper_interval_seconds=0, pool_size=1)
    async with (
        open_database(config) as database,
        open_kernel(config, database) as kernel,
        client_of(kernel) as client,
        open_database(config) as database_elsewhere,
        open_kernel(config, database_elsewhere) as kernel_elsewhere,
        client_of(kernel_elsewhere) as client_elsewhere,
    ):
        project = Project(kernel, client)
        worker = await project.agent("worker")
        elsewhere = evolve(worker, project=Project(kernel_elsewhere, client_elsewhere, project.id))
        await until(database, _LISTENERS, 2)
        waiting = asyncio.create_task(elsewhere.claim({"Prefer": "wait=60"}))
        while not kernel_elsewhere.notifier.waiting_count:  # noqa: ASYNC110  # as here
            await asyncio.sleep(0.01)
        turn_id = await worker.dispatch(worker)
        with anyio.fail_after(8):  # a look without news comes after ten seconds
            claim = await waiting
        assert (await worker.finish(claim)).status_code == 200
        assert (await project.row(turn_id))["state"] == "closed"


@needs_pgbouncer
async def test_settings_hold_for_every_statement_behind_a_session_pooler(pooled: str) -> None:
    """Whoever has the server's connection next begins without them, and a kernel sets them again."""
    wanted = "UTC off off force_generic_plan"
    for _ in range(2):
        async with Database.open(pooled, pool_size=2) as database:
            for _ in range(3):
                assert await asyncio.gather(*[database.fetchval(_SETTINGS) for _ in range(4)]) == [wanted] * 4
                await database.fetch_planned("select 1")
        connection = await asyncpg.connect(pooled)
        assert await connection.fetchval("show plan_cache_mode") == "auto"
        await connection.close()


@needs_pgbouncer
async def test_the_pooler_and_its_mode_are_found(dsn: str, pooled: str, shared: str) -> None:
    assert await find_pooling(Hosts(dsn)) is Pooling.NONE
    assert await find_pooling(Hosts(pooled)) is Pooling.SESSION
    assert await find_pooling(Hosts(shared)) is Pooling.TRANSACTION
    assert "in session mode" in await describe_server(KernelConfig(pg_dsn=pooled))
    assert "hear late" in await describe_server(KernelConfig(pg_dsn=shared))
    told = await describe_server(KernelConfig(pg_dsn=shared, pg_listen_dsn=dsn))
    assert told.endswith("at PG_DSN, through a pooler in transaction mode, and at PG_LISTEN_DSN")


@needs_pgbouncer
async def test_a_session_pooler_without_a_second_connection_is_found(dsn: str) -> None:
    with a_pooler(dsn, "session", pool_size=1) as narrow:
        assert await find_pooling(Hosts(narrow)) is Pooling.SESSION


@needs_pgbouncer
@pytest.mark.parametrize("listens", [True, False])
async def test_a_turn_runs_behind_a_transaction_pooler(
    dsn: str, shared: str, listens: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A request at one kernel is woken by another: by a direct address, or else by looking often."""
    direct = dsn if listens else None
    config = KernelConfig(pg_dsn=shared, pg_listen_dsn=direct, claim_reaper_interval_seconds=0, pool_size=4)
    with caplog.at_level(logging.WARNING, "cgworker.kernel"):
        async with (
            open_database(config) as database,
            open_kernel(config, database) as kernel,
            client_of(kernel) as client,
            open_database(config) as database_elsewhere,
            open_kernel(config, database_elsewhere) as kernel_elsewhere,
            client_of(kernel_elsewhere) as client_elsewhere,
        ):
            project = Project(kernel, client)
            project_elsewhere = Project(kernel_elsewhere, client_elsewhere, project.id)
            workers = [await project.agent(f"worker-{n}") for n in range(6)]
            elsewhere = [evolve(worker, project=project_elsewhere) for worker in workers]
            waiting = [asyncio.create_task(each.claim({"Prefer": "wait=60"})) for each in elsewhere]
            while kernel_elsewhere.notifier.waiting_count < len(waiting):  # noqa: ASYNC110  # as here
                await asyncio.sleep(0.01)
            turns = await asyncio.gather(*(worker.dispatch(worker) for worker in workers))
            with anyio.fail_after(8):  # where LISTEN works, a look without news comes after ten seconds
                claims = await asyncio.gather(*waiting)
            for worker, claim in zip(workers, claims, strict=True):
                assert (await worker.finish(claim)).status_code == 200
            assert {claim["turn_id"] for claim in claims} == set(turns)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == (0 if listens else 2), "once by each kernel"
    assert all(line.startswith("PG_DSN is the address of a pooler in transaction mode") for line in told)


@needs_pgbouncer
async def test_nothing_stays_set_behind_a_transaction_pooler(shared: str) -> None:
    """Whoever has the server's connection next is another program, perhaps."""
    async with Database.open(shared, pool_size=4) as database:
        for _ in range(3):
            await asyncio.gather(*[database.fetch_planned("select $1::int", n) for n in range(8)])
        rows = await database.fetch("select name from pg_settings where source = 'session'")
        told_by_the_pooler = {"application_name", "client_encoding", "TimeZone"}
        asyncpgs = {
            "jit"
        }  # off while it looks up a type, and on again at another server's connection, perhaps
        assert {row["name"] for row in rows} <= told_by_the_pooler | asyncpgs
        assert await database.fetchval("select count(*) from pg_prepared_statements") == 0


async def test_a_refused_connection_for_news_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not silent, since requests would wait longer than they need; and not once a second."""
    monkeypatch.setattr(notifier, "_RECONNECT_SECONDS", 0.01)
    attempts = 0

    def refuse(*_: object, **__: object) -> None:
        nonlocal attempts
        attempts += 1
        raise asyncpg.ProtocolViolationError("unsupported startup parameter: synchronous_commit")

    monkeypatch.setattr(asyncpg, "connect", refuse)
    refused = Notifier(Hosts("postgresql://nobody@127.0.0.1/nothing"))
    with caplog.at_level(logging.WARNING, "cgworker.kernel"):
        refused.start()
        while attempts < 5:  # noqa: ASYNC110  # as here
            await asyncio.sleep(0.01)
        await refused.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "no connection for LISTEN and NOTIFY (unsupported startup parameter: synchronous_commit): "
        "waiting requests hear late of other kernels; trying again every 0.01 s"
    ]
