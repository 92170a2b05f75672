"""Databases for tests: one PostgreSQL per run, one database per module, copied from a migrated template.

The PostgreSQL is the embedded one; an embedded one with the programs in CG_TEST_PG_BIN; or that of
CG_TEST_PG_DSN. With CG_TEST_PGBOUNCER=session or =transaction, databases are opened through PgBouncer.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from cgworker.kernel.store.postgres import embedded
from cgworker.kernel.store.postgres.embedded import EmbeddedPostgres
from cgworker.kernel.store.postgres.migrate import migrate
from tests.poolers import all_pooled


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL on which databases can be made."""
    if dsn := os.environ.get("CG_TEST_PG_DSN"):
        yield dsn
        return
    with tempfile.TemporaryDirectory(prefix="cg-") as folder:
        server = EmbeddedPostgres(folder, durable=False)
        if programs := os.environ.get("CG_TEST_PG_BIN"):
            Path(folder).chmod(0o711)  # those of PostgreSQL 15 go back to where they began by its path
            with mock.patch.object(embedded, "programs_for", return_value=Path(programs)):
                server.start()
        with server:
            yield server.dsn


@pytest.fixture(scope="session")
def template(postgres: str) -> Iterator[str]:
    """The name of a database with the schema and nothing in it."""
    with a_database(postgres) as dsn, ExitStack() as stack:
        asyncio.run(migrate(lambda: asyncpg.connect(dsn)))
        if mode := os.environ.get("CG_TEST_PGBOUNCER"):
            stack.enter_context(all_pooled(postgres, mode))
        yield _name_of(dsn)


@pytest.fixture(scope="module")
def dsn(postgres: str, template: str) -> Iterator[str]:
    """The address of the module's own migrated database."""
    with a_database(postgres, template=template) as dsn:
        yield dsn


@contextmanager
def a_database(postgres: str, *, template: str = "template0") -> Iterator[str]:
    """A new database, dropped at the end; yields its address."""
    name = f"cg_test_{secrets.token_hex(6)}"
    asyncio.run(_execute(postgres, f'create database "{name}" template "{template}"'))
    try:
        yield urlunsplit(urlsplit(postgres)._replace(path=f"/{name}"))
    finally:
        asyncio.run(_execute(postgres, f'drop database "{name}" with (force)'))


def _name_of(dsn: str) -> str:
    return urlsplit(dsn).path.lstrip("/")


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
