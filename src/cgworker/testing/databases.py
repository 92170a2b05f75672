"""Databases for kernels under test: one embedded PostgreSQL per process, a fresh database per kernel."""

from __future__ import annotations

import asyncio
import atexit
import secrets
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from urllib.parse import urlsplit, urlunsplit

from cgworker.kernel.config import KernelConfig
from cgworker.kernel.store.postgres.connect import open_database
from cgworker.kernel.store.postgres.database import Database
from cgworker.kernel.store.postgres.embedded import EmbeddedPostgres

# Several kernels may start at once, each in its own thread; only one of them starts the server.
_making = threading.Lock()


@asynccontextmanager
async def fresh_database(server: str | None = None) -> AsyncIterator[str]:
    """Create a database with the schema and nothing in it; drop it at the end of the block.

    Args:
        server: a PostgreSQL on which databases may be created; None means the process's embedded one.

    Yields:
        The address of the database.
    """
    if server is None:
        server = await asyncio.to_thread(_embedded_once)
    name = f"cg_local_{secrets.token_hex(6)}"
    await _execute(server, f'create database "{name}"')
    try:
        # Opening it migrates it, which takes no longer than copying a template database would.
        async with open_database(KernelConfig(pg_dsn=_address(server, name), pool_size=1)):
            pass
        yield _address(server, name)
    finally:
        await _execute(server, f'drop database "{name}" with (force)')


def _embedded_once() -> str:
    with _making:
        return _embedded()


@cache
def _embedded() -> str:
    """Return the address of the embedded server, which runs from the first kernel until the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="cg-")
    postgres = EmbeddedPostgres(folder.name, durable=False)
    atexit.register(folder.cleanup)
    return postgres.start()


def _address(server: str, name: str) -> str:
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


async def _execute(server: str, statement: str) -> None:
    async with Database.open(server, pool_size=1) as database:
        await database.execute(statement)
