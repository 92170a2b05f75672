"""PgBouncer in front of the databases of tests, where it is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from unittest import mock
from urllib.parse import SplitResult, parse_qs, urlsplit

import pytest

from cgworker.kernel.server import bind
from cgworker.kernel.store.postgres.database import Database
from cgworker.kernel.store.postgres.hosts import Hosts
from cgworker.kernel.store.postgres.server_account import Account

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

needs_pgbouncer = pytest.mark.skipif(
    PGBOUNCER is None, reason="pgbouncer is not installed (apt-get install pgbouncer)"
)

needs_own_connections = pytest.mark.skipif(
    "CG_TEST_PGBOUNCER" in os.environ,
    reason="PostgreSQL tells what a connection has read once it is closed, and a pooler keeps it open",
)

needs_own_settings = pytest.mark.skipif(
    os.environ.get("CG_TEST_PGBOUNCER") == "transaction",
    reason="in transaction mode a session's settings stay with a connection that PgBouncer gives to others",
)

_CONFIG = """
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {pool_size}
max_client_conn = 1000
query_wait_timeout = 5
server_login_retry = 1
logfile = {log}
"""


@contextmanager
def a_pooler(dsn: str, mode: str, *, pool_size: int = 4) -> Iterator[str]:
    """Run a pooler before a server; yields the database's address through it.

    It refuses to be root, so it runs as the account that can use the server's socket, from the folder of
    the socket: it needs no way there.

    Args:
        dsn: the address of a database of the server.
        mode: session or transaction.
        pool_size: how many of the server's connections it uses for a database.
    """
    assert PGBOUNCER is not None, "pgbouncer is not installed (apt-get install pgbouncer)"
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
                mode=mode,
                pool_size=pool_size,
                log=Path(place) / "log",
            )
        )
        chosen.close()
        owner = folder.stat().st_uid or 65534
        account = Account(owner, owner) if os.geteuid() == 0 else Account(os.geteuid(), os.getegid())
        pooler = subprocess.Popen(
            [PGBOUNCER, "--quiet", str(config)], cwd=folder, **account.process_options()
        )
        try:
            _wait_until_it_listens(port)
            yield through(dsn, port)
        finally:
            pooler.kill()
            pooler.wait()


def through(dsn: str, port: int) -> str:
    """A database's address through the pooler at a port."""
    return f"postgresql://{urlsplit(dsn).username}@127.0.0.1:{port}{urlsplit(dsn).path}?sslmode=disable"


@contextmanager
def all_pooled(postgres: str, mode: str) -> Iterator[None]:
    """Let all databases be opened through a pooler, while tests and kernels' LISTEN go past it.

    Databases of another server, or behind something of a test's own, are opened as they are.

    Args:
        postgres: the address of the server.
        mode: session or transaction.
    """
    open_directly = Database.open

    with a_pooler(postgres, mode, pool_size=30) as pooled:
        port = urlsplit(pooled).port
        assert port is not None

        @asynccontextmanager
        async def opened(dsn: str, *, pool_size: int = 10) -> AsyncIterator[Database]:
            if _server_of(dsn) != _server_of(postgres):
                async with open_directly(dsn, pool_size=pool_size) as database:
                    yield database
                return
            async with open_directly(through(dsn, port), pool_size=pool_size) as database:
                assert database.pooling.name == mode.upper()
                database.dsn, database.listen_hosts = dsn, Hosts(dsn)
                yield database

        with mock.patch.object(Database, "open", opened):
            yield


def _server_of(dsn: str) -> SplitResult:
    return urlsplit(dsn)._replace(path="")


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
