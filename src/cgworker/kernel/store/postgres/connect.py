"""Open the configured database: start the embedded one or connect to the operator's, and migrate it."""

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
from cgworker.kernel.store.postgres.hosts import Hosts
from cgworker.kernel.store.postgres.migrate import migrate
from cgworker.kernel.store.postgres.pooling import Pooling, find_pooling

logger: logging.Logger = logging.getLogger("cgworker.kernel")

_CHECK_SECONDS = 2.0


@asynccontextmanager
async def open_database(config: KernelConfig) -> AsyncIterator[Database]:
    """Open the configured database with this version's schema.

    Without `config.pg_dsn` it is the embedded one, which runs at least until the block ends.

    Raises:
        KernelOverloaded: the database cannot be reached.
        UsageError: the address is invalid, the server too old, or the schema of another version.
    """
    async with AsyncExitStack() as stack:
        dsn = config.pg_dsn or await _start_embedded(stack, config.postgres_folder)
        await migrate(lambda: _connect(dsn))
        yield await stack.enter_async_context(Database.open(dsn, pool_size=config.pool_size))


async def describe_server(config: KernelConfig) -> str:
    """Return in words which PostgreSQL answers at an address, and what is in between.

    Args:
        config: names the address, `pg_dsn`, and `pg_listen_dsn` if there is one.

    Raises:
        KernelOverloaded: the server cannot be reached at an address.
        UsageError: an address is invalid.
    """
    assert config.pg_dsn is not None
    version = await _version(config.pg_dsn)
    pooling = await find_pooling(Hosts(config.pg_dsn))
    told = f"PostgreSQL {version} answers at PG_DSN, through {pooling.value}"
    if config.pg_listen_dsn is not None:
        await _version(config.pg_listen_dsn)
        return f"{told}, and at PG_LISTEN_DSN"
    if pooling is Pooling.TRANSACTION:
        return f"{told}; without PG_LISTEN_DSN, requests hear late of other kernels"
    return told


async def _version(dsn: str) -> str:
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
        postgres.cancel_start()  # a recovery may take long, and its thread would keep the process alive
        raise
    stack.push_async_callback(asyncio.to_thread, postgres.stop)
    leaving = asyncio.Event()
    watching = asyncio.create_task(_keep_running(postgres, leaving))
    stack.push_async_callback(lambda: watching)  # wait for it: a restart must not outlive the stop
    stack.callback(postgres.cancel_start)
    stack.callback(leaving.set)
    return dsn


async def _keep_running(postgres: EmbeddedPostgres, leaving: asyncio.Event) -> None:
    """Restart the server if it dies; nothing else supervises it."""
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


async def _connect(dsn: str) -> asyncpg.Connection[asyncpg.Record]:
    try:
        return await Hosts(dsn).connect(statement_cache_size=0)  # a pooler may be in between
    except (ValueError, asyncpg.ClientConfigurationError) as unreadable:
        raise UsageError(f"PG_DSN is not a PostgreSQL address: {unreadable}") from unreadable
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as away:
        raise KernelOverloaded(f"PostgreSQL is unavailable: {str(away) or type(away).__name__}") from away
