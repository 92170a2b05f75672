"""Open the database for commands that work on it directly."""

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
    """Read the kernel's configuration from the environment, with --pg-dsn in place of PG_DSN.

    Args:
        pg_dsn: the value of --pg-dsn; None or blank if it is not given.

    Raises:
        UsageError: a variable has a value that cannot be used.
    """
    config = KernelConfig.from_env()
    dsn = non_blank(pg_dsn)
    return evolve(config, pg_dsn=dsn) if dsn else config


@asynccontextmanager
async def open_for_command(command_name: str, pg_dsn: str | None) -> AsyncIterator[Database]:
    """Open the database of --pg-dsn or PG_DSN, or else the embedded one, and migrate it.

    Args:
        command_name: the command, for the message of a failure.
        pg_dsn: the value of --pg-dsn, if it is given.

    Raises:
        KernelRefused: PostgreSQL does not answer (setup_pg_unavailable).
        UsageError: the configuration or the database cannot be used.
    """
    async with open_or_print(config_with(pg_dsn), command_name) as database:
        yield database


@asynccontextmanager
async def open_or_print(config: KernelConfig, command_name: str) -> AsyncIterator[Database]:
    """Open the configured database, with a progress line.

    Args:
        config: names the database.
        command_name: the command, for the message of a failure.

    Raises:
        KernelRefused: PostgreSQL does not answer (setup_pg_unavailable).
    """
    async with AsyncExitStack() as stack:
        with progress("opening the database"):
            try:
                database = await stack.enter_async_context(open_database(config))
            except KernelOverloaded as away:
                message = f"PostgreSQL is unavailable for {command_name}"
                raise KernelRefused(message, code="setup_pg_unavailable", status=503) from away
        yield database
