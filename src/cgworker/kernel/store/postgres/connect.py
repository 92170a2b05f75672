"""From a configuration to a database that is ready: the embedded one or the operator's own, migrated."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from cgworker.errors import KernelOverloaded, UsageError
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.store.postgres.database import Database
from cgworker.kernel.store.postgres.embedded import EmbeddedPostgres
from cgworker.kernel.store.postgres.migrate import migrate

logger: logging.Logger = logging.getLogger("cgworker.kernel")

_CHECK_SECONDS = 2.0


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


async def server_version(dsn: str) -> str:
    """The version of the PostgreSQL there, which must answer; nothing is changed.

    Raises:
        KernelOverloaded: it cannot be reached.
        UsageError: the address is wrong.
    """
    connection = await _connect(dsn)
    try:
        return str(await connection.fetchval("show server_version"))
    finally:
        await connection.close()


async def _start_embedded(stack: AsyncExitStack, folder: str | None) -> str:
    postgres = EmbeddedPostgres(folder)
    try:
        dsn = await asyncio.to_thread(postgres.start)
    except asyncio.CancelledError:
        postgres.cancel_start()  # a recovery may be long; its thread would keep the process from ending
        raise
    stack.push_async_callback(asyncio.to_thread, postgres.stop)
    leaving = asyncio.Event()
    watching = asyncio.create_task(_keep_running(postgres, leaving))
    stack.push_async_callback(lambda: watching)  # to its end: a start under way must not outlive the stop
    stack.callback(postgres.cancel_start)
    stack.callback(leaving.set)
    return dsn


async def _keep_running(postgres: EmbeddedPostgres, leaving: asyncio.Event) -> None:
    """Start the server again if it dies: nobody else watches over it."""
    while not await _is_set_within(leaving, _CHECK_SECONDS):
        if not postgres.is_running:
            logger.warning("the embedded PostgreSQL is gone, starting it again")
            try:
                await asyncio.to_thread(postgres.start)
            except UsageError as trouble:
                logger.error("%s", trouble)


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


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
