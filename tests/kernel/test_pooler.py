"""A kernel behind PgBouncer in session mode: the real one, where it is installed."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
import asyncpg
import pytest
from attrs import evolve

from cgworker.kernel.app import open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.long_poll import notifier
from cgworker.kernel.long_poll.notifier import Notifier
from cgworker.kernel.server import bind
from cgworker.kernel.store.postgres.connect import open_database
from cgworker.kernel.store.postgres.database import Database
from cgworker.kernel.store.postgres.server_account import Account
from tests.kernel.project import Project, client_of

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

needs_pgbouncer = pytest.mark.skipif(
    PGBOUNCER is None, reason="pgbouncer is not installed (apt-get install pgbouncer)"
)

_CONFIG = """
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = session
default_pool_size = 4
logfile = {log}
"""


@pytest.fixture(scope="module")
def pooled(dsn: str) -> Iterator[str]:
    """The module's database, through a pooler of our own.

    It refuses to be root, so it runs as the account that can use the server's socket, from the folder of
    the socket: it needs no way there.
    """
    server, folder = urlsplit(dsn), Path(parse_qs(urlsplit(dsn).query).get("host", ["/"])[0])
    with tempfile.TemporaryDirectory(prefix="cg-pooler-") as place, closing(bind("127.0.0.1", 0)) as chosen:
        Path(place).chmod(0o777)
        port = chosen.getsockname()[1]
        config = Path(place) / "pgbouncer.ini"
        config.write_text(
            _CONFIG.format(
                host=server.hostname or "/proc/self/cwd",
                port=server.port or 5432,
                user=server.username,
                listen_port=port,
                log=Path(place) / "log",
            )
        )
        chosen.close()
        owner = folder.stat().st_uid or 65534
        account = Account(owner, owner) if os.geteuid() == 0 else Account(os.geteuid(), os.getegid())
        pooler = subprocess.Popen(
            [str(PGBOUNCER), "--quiet", str(config)], cwd=folder, **account.process_options()
        )
        try:
            _wait_until_it_listens(port)
            yield f"postgresql://{server.username}@127.0.0.1:{port}{server.path}?sslmode=disable"
        finally:
            pooler.kill()
            pooler.wait()


def _wait_until_it_listens(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


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
    refused = Notifier("postgresql://nobody@127.0.0.1/nothing")
    with caplog.at_level(logging.WARNING, "cgworker.kernel"):
        refused.start()
        while attempts < 5:  # noqa: ASYNC110  # as here
            await asyncio.sleep(0.01)
        await refused.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "no connection for LISTEN and NOTIFY (unsupported startup parameter: synchronous_commit): "
        "waiting requests hear late of other kernels; trying again every 0.01 s"
    ]
