"""From a configuration to a database that is ready: the embedded one or the operator's own, migrated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from cgworker.errors import KernelOverloaded, UsageError
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.store.embedded import EmbeddedPostgres
from cgworker.kernel.store.migrate import migrate
from cgworker.kernel.store.postgres import Database


@asynccontextmanager
async def open_database(config: KernelConfig) -> AsyncIterator[Database]:
    """The configured database with this version's schema.

    Without `config.pg_dsn` it is the embedded one, which runs at least until the block ends.

    Raises:
        KernelOverloaded: it cannot be reached.
        UsageError: it cannot be used: the address is wrong, the server too old, the schema another's.
    """
    async with AsyncExitStack() as stack:
        dsn = config.pg_dsn or await _start_embedded(stack, config.postgres_folder)
        await _migrate(dsn)
        yield await stack.enter_async_context(Database.open(dsn, pool_size=config.pool_size))


async def _start_embedded(stack: AsyncExitStack, folder: str | None) -> str:
    postgres = EmbeddedPostgres(folder)
    dsn = await asyncio.to_thread(postgres.start)
    stack.push_async_callback(asyncio.to_thread, postgres.stop)
    return dsn


async def _migrate(dsn: str) -> None:
    connection = await _connect(dsn)
    try:
        await migrate(connection)
    finally:
        await connection.close()


async def _connect(dsn: str) -> asyncpg.Connection[asyncpg.Record]:
    try:
        return await asyncpg.connect(dsn, timeout=10)
    except (ValueError, asyncpg.ClientConfigurationError) as unreadable:
        raise UsageError(f"PG_DSN is not a PostgreSQL address: {unreadable}") from unreadable
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as away:
        raise KernelOverloaded(f"PostgreSQL is unavailable: {str(away) or type(away).__name__}") from away
