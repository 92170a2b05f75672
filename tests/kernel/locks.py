"""Rows that a test holds, so that statements of the kernel wait for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import asyncpg

from cgworker.kernel.store.ids import turn_number
from cgworker.kernel.store.postgres.database import Connection
from tests.kernel.parked import QUICK_SECONDS
from tests.kernel.project import Project

PROJECT_ROW = "select from cg_projects where project_id = $1 for update"
AGENT_ROWS = "select from cg_agents where project_id = $1 for update"

BLOCKED = " from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


def turn_row(turn_id: str) -> str:
    return f"select from cg_turns where project_id = $1 and turn_number = {turn_number(turn_id)} for update"


class Held:
    """A lock, and who waits for it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def waited_for(self, count: int) -> None:
        """Until so many statements wait for locks."""
        with anyio.fail_after(QUICK_SECONDS):
            while await self._count_blocked() < count:  # noqa: ASYNC110  # it can only be asked
                await anyio.sleep(0.005)

    async def _count_blocked(self) -> int:
        # Within a transaction PostgreSQL shows the activity as it was at the first look.
        await self.connection.execute("select pg_stat_clear_snapshot()")
        return int(await self.connection.fetchval("select count(*)" + BLOCKED))

    async def cut_off(self) -> None:
        """End the connections of those statements."""
        await self.connection.execute("select pg_terminate_backend(pid)" + BLOCKED)


@asynccontextmanager
async def holding(project: Project, statement: str) -> AsyncIterator[Held]:
    """The rows that the statement locks are held until the block ends."""
    connection = await asyncpg.connect(project.kernel.database.dsn)
    try:
        async with connection.transaction():
            await connection.execute(statement.replace("$1", f"'{project.id}'"))
            yield Held(connection)
    finally:
        await connection.close()
