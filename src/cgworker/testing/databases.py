"""Databases for kernels under test: one embedded PostgreSQL per process, a fresh database for each kernel."""

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

# Kernels start in threads of their own, perhaps several at once; what they share is made once.
_making = threading.Lock()


@asynccontextmanager
async def fresh_database(server: str | None = None) -> AsyncIterator[str]:
    """The address of a new database with the schema and nothing in it; it is gone at the end.

    Args:
        server: a PostgreSQL on which databases may be made; None means the process's embedded one.
    """
    if server is None:
        server = await asyncio.to_thread(_embedded_once)
    name = f"cg_local_{secrets.token_hex(6)}"
    await _execute(server, f'create database "{name}"')
    try:
        # Opening it migrates it, which takes no longer than copying a template, and leaves none behind.
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
    """Started with the first kernel of the process, stopped and deleted at the process's end."""
    folder = tempfile.TemporaryDirectory(prefix="cg-")
    postgres = EmbeddedPostgres(folder.name, durable=False)
    atexit.register(folder.cleanup)
    return postgres.start()


def _address(server: str, name: str) -> str:
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


async def _execute(server: str, statement: str) -> None:
    async with Database.open(server, pool_size=1) as database:
        await database.execute(statement)
