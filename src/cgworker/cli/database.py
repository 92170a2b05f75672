"""The database of a command that works on it directly, as an operator does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from attrs import evolve

from cgworker.cli.progress import progress
from cgworker.errors import KernelOverloaded, KernelRefused
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.store.postgres.connect import open_database
from cgworker.kernel.store.postgres.database import Database
from cgworker.profiles import non_blank


def config_with(pg_dsn: str | None) -> KernelConfig:
    """The configuration of the environment, with the database of a flag, if one is given.

    Raises:
        UsageError: a variable has a value that cannot be used.
    """
    config = KernelConfig.from_env()
    dsn = non_blank(pg_dsn)
    return evolve(config, pg_dsn=dsn) if dsn else config


@asynccontextmanager
async def open_for_command(command_name: str, pg_dsn: str | None) -> AsyncIterator[Database]:
    """The database of PG_DSN or --pg-dsn, or else the embedded one; migrated.

    Raises:
        KernelRefused: setup_pg_unavailable.
        UsageError: it cannot be used.
    """
    async with open_or_print(config_with(pg_dsn), command_name) as database:
        yield database


@asynccontextmanager
async def open_or_print(config: KernelConfig, command_name: str) -> AsyncIterator[Database]:
    """The configured database; what keeps it from being opened is told for `command_name`."""
    async with AsyncExitStack() as stack:
        with progress("opening the database"):
            try:
                database = await stack.enter_async_context(open_database(config))
            except KernelOverloaded as away:
                message = f"PostgreSQL is unavailable for {command_name}"
                raise KernelRefused(message, code="setup_pg_unavailable", status=503) from away
        yield database
