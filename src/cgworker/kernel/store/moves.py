"""Close a project so that it can move to another database, open it again, or forget it once it has moved.

A closed project can be read. Writes to it are answered with 503 and Retry-After, so that clients repeat them
until the project is open, here or in the other database (migration 0016).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg

from cgworker.errors import ConflictError, KernelOverloaded, NotFoundError
from cgworker.kernel.store.ledger import number_events, number_in
from cgworker.kernel.store.postgres.database import PLAN_EACH_TIME, Connection, Database
from cgworker.kernel.store.project_file import TABLES

_BATCH = 5000
_LOCK_SECONDS = (0.2, 0.2, 0.2, 0.5, 2.0)  # PostgreSQL ends an autovacuum that is in the way after a second
_PAUSE_SECONDS = 1.0  # between two tries to get the tables' locks, in which requests catch up

FIND_MOVE = "select * from cg_moves where project_id = $1"

PROJECT_EXISTS = "select exists (select from cg_projects where project_id = $1)"

LIMIT_LOCK_WAIT = "select set_config('lock_timeout', $1, true)"

PERMIT_WRITES = "select set_config('cgworker.moves', 'on', true)"

CLOSE_TABLES = "select cg_close_project($1)"

OPEN_TABLES = "select cg_open_project($1)"

NOTE_CLOSED = """
insert into cg_moves (project_id, closed_at) values ($1, cg_now())
on conflict (project_id) do update set closed_at = coalesce(cg_moves.closed_at, cg_now())
"""

NOTE_OPEN = "update cg_moves set closed_at = null where project_id = $1"

NOTE_FORGOTTEN = "update cg_moves set forgotten_at = coalesce(forgotten_at, cg_now()) where project_id = $1"

# The greeting of long_poll/notifier.py: all waiting requests and timers of all kernels look again.
WAKE_KERNELS = "select pg_notify('cg_wakeups', '*')"

# A closed project's events have numbers, by which an index finds them.
FORGET_ROWS = {
    table: f"""
with gone as (
    delete from {table}
    where project_id = $1 and ctid = any (array(
        select ctid from {table}
        where project_id = $1 {"and ledger_seq is not null" if table == "cg_ledger" else ""}
        limit $2
    ))
    returning 1
)
select count(*) from gone
"""
    for table in TABLES
}


async def close_project(database: Database, project_id: str) -> None:
    """Refuse all writes to a project from now on. When this returns, everything written before is committed.

    Raises:
        NotFoundError: there is no such project, or it has been forgotten.
    """
    await require_project(database, project_id)
    await number_events(database, project_id)  # most of them before the tables are locked

    async def close(connection: Connection) -> None:
        await connection.execute(CLOSE_TABLES, project_id)
        await connection.execute(PERMIT_WRITES)
        await number_in(connection, project_id)
        await connection.execute(NOTE_CLOSED, project_id)

    await _with_short_waits(database, close)


async def open_project(database: Database, project_id: str) -> None:
    """Let a closed project be written to again; an open one is left as it is.

    Raises:
        NotFoundError: there is no such project.
        ConflictError: it has been forgotten here, at least partly.
    """

    async def reopen(connection: Connection) -> None:
        await connection.execute(OPEN_TABLES, project_id)
        await connection.execute(NOTE_OPEN, project_id)
        await connection.execute(WAKE_KERNELS)

    await require_not_moved(database, project_id)
    await require_project(database, project_id)
    await _with_short_waits(database, reopen)


async def forget_project(database: Database, project_id: str) -> dict[str, int]:
    """Remove a closed project for ever. It can be repeated if it was interrupted.

    Returns:
        The number of removed rows, by table.

    Raises:
        NotFoundError: there is no such project, and none has been forgotten.
        ConflictError: the project is not closed.
    """
    move = await database.fetchrow(FIND_MOVE, project_id)
    if move is None or move["closed_at"] is None:
        await require_project(database, project_id)
        raise ConflictError(
            f"project {project_id} is not closed, so it may have been used since it was exported: "
            "export it with --close, and import that file elsewhere first"
        )
    await database.execute(NOTE_FORGOTTEN, project_id)
    counts = {table: await _forget_rows(database, project_id, table) for table in TABLES}

    async def end(connection: Connection) -> None:
        await connection.execute(OPEN_TABLES, project_id)
        await connection.execute(WAKE_KERNELS)

    await _with_short_waits(database, end)
    return counts


async def _forget_rows(database: Database, project_id: str, table: str) -> int:
    async def forget(connection: Connection) -> int:
        await connection.execute(PERMIT_WRITES)
        await connection.execute(PLAN_EACH_TIME)
        count: int = await connection.fetchval(FORGET_ROWS[table], project_id, _BATCH)
        return count

    total = 0
    while count := await database.transact(forget):
        total += count
    return total


async def require_not_moved(database: Database, project_id: str) -> None:
    """Raise ConflictError if the project has moved from this database to another one."""
    move = await database.fetchrow(FIND_MOVE, project_id)
    if move is not None and move["forgotten_at"] is not None:
        raise ConflictError(
            f"project {project_id} has moved from this database to another one; `cg admin import` with the "
            "file of its last export there brings it back"
        )


async def require_project(database: Database, project_id: str) -> None:
    """Raise NotFoundError unless there is such a project."""
    if not await database.fetchval(PROJECT_EXISTS, project_id):
        raise NotFoundError(f"project not found: {project_id}", code="project_not_found")


async def _with_short_waits(database: Database, work: Callable[[Connection], Awaitable[None]]) -> None:
    """Run a transaction that locks tables; give up each wait for a lock early, so that requests go on."""
    tries = iter(_LOCK_SECONDS)
    seconds = next(tries)

    async def limited(connection: Connection) -> None:
        await connection.execute(LIMIT_LOCK_WAIT, f"{seconds:g}s")
        await work(connection)

    while True:
        try:
            return await database.transact(limited)
        except KernelOverloaded as busy:
            if not isinstance(busy.__cause__, asyncpg.LockNotAvailableError):
                raise
        seconds = next(tries, seconds)
        await asyncio.sleep(_PAUSE_SECONDS)
