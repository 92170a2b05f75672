"""The database: one pool, one place where its errors become ours.

Trouble with the database is never the caller's fault: it becomes a 503 with Retry-After, and above all
never a 409, which clients read as a lost lease (difference 1).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import asyncpg

from cgworker.errors import InvalidRequest, KernelOverloaded

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

T = TypeVar("T")
Row = asyncpg.Record
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

_RETRIES = 5
_ACQUIRE_SECONDS = 10.0
_COMMAND_SECONDS = 30.0
_RETRY_AFTER_SECONDS = 1.0

# Those that every pooler passes on; PgBouncer refuses a connection that begins with others.
_SETTINGS = {"timezone": "UTC", "application_name": "cgworker"}

# A statement is planned once, for any values: planning costs a busy one more than running it. Since the plan
# is kept while tables grow, it must not be made for small ones. Whoever needs another uses `fetch_planned`.
_PLAN_ONCE = "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set jit = off"

# Two transactions met; the one that was given up is simply run again.
_CONFLICTS: tuple[type[asyncpg.PostgresError], ...] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidCachedStatementError,
)
_RACES: tuple[type[asyncpg.PostgresError], ...] = (*_CONFLICTS, asyncpg.UniqueViolationError)

# The database is away, going away, coming, full of others, or not ours (yet).
_UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InternalServerError,
    asyncpg.PostgresIOError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.UndefinedTableError,
    asyncpg.InsufficientPrivilegeError,
)


PLAN_EACH_TIME = "set local plan_cache_mode = force_custom_plan; set local enable_seqscan = on"


class Database:
    """A pool of connections to PostgreSQL; times are UTC on all of them.

    Every call raises `KernelOverloaded` (503) while the database is away, and `InvalidRequest` (422) for
    data that it cannot usage.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], dsn: str) -> None:
        self._pool = pool
        self.dsn = dsn

    @classmethod
    @asynccontextmanager
    async def open(cls, dsn: str, *, pool_size: int = 10) -> AsyncIterator[Database]:
        """Connect, and close at the end.

        Raises:
            OSError, asyncpg.PostgresError: it cannot be reached.
        """
        pool = await asyncpg.create_pool(
            dsn,
            min_size=0,  # a floor would be restored in the background, loudly, while the database is away
            max_size=pool_size,
            command_timeout=_COMMAND_SECONDS,
            server_settings=_SETTINGS,
            init=_plan_once,
            reset=_nothing_to_reset,
        )
        try:
            async with pool.acquire():
                pass  # says now whether it can be reached
            yield cls(pool, dsn)
        finally:
            await _close(pool)

    @property
    def used_count(self) -> int:
        """Connections in use now."""
        return self._pool.get_size() - self._pool.get_idle_size()

    @property
    def open_count(self) -> int:
        """Connections open now."""
        return self._pool.get_size()

    async def fetch(self, statement: str, *values: Any) -> list[Row]:
        """All rows of one statement, which is its own transaction."""
        return await self._run(lambda connection: connection.fetch(statement, *values))

    async def fetch_racing(self, statement: str, *values: Any) -> list[Row]:
        """As `fetch`, for a statement that passes over keys it finds taken, and inserts the others.

        A key taken between its look and its insert violates the unique key; then it is run again, and sees.
        """
        return await self._run(lambda connection: connection.fetch(statement, *values), _RACES)

    async def fetch_planned(self, statement: str, *values: Any) -> list[Row]:
        """As `fetch`, planned for these very values: no one plan serves filters that may be null."""

        async def fetch(connection: Connection) -> list[Row]:
            await connection.execute(PLAN_EACH_TIME)
            return await connection.fetch(statement, *values)

        return await self.transact(fetch)

    async def fetchrow(self, statement: str, *values: Any) -> Row | None:
        """The first row of one statement, or None."""
        return await self._run(lambda connection: connection.fetchrow(statement, *values))

    async def fetchval(self, statement: str, *values: Any) -> Any:
        """The first value of the first row of one statement, or None."""
        return await self._run(lambda connection: connection.fetchval(statement, *values))

    async def execute(self, statement: str, *values: Any) -> str:
        """Run one statement; returns its command tag."""
        return await self._run(lambda connection: connection.execute(statement, *values))

    async def transact(self, work: Callable[[Connection], Awaitable[T]], *, is_racing: bool = False) -> T:
        """Run several statements as one transaction; `work` may be run again after a conflict.

        Args:
            is_racing: as in `fetch_racing`, for all of its statements.
        """

        async def in_transaction(connection: Connection) -> T:
            async with connection.transaction():
                return await work(connection)

        return await self._run(in_transaction, _RACES if is_racing else _CONFLICTS)

    async def _run(
        self,
        work: Callable[[Connection], Awaitable[T]],
        conflicts: tuple[type[asyncpg.PostgresError], ...] = _CONFLICTS,
    ) -> T:
        for left in reversed(range(_RETRIES)):
            try:
                async with self._pool.acquire(timeout=_ACQUIRE_SECONDS) as connection:
                    return await work(connection)
            except conflicts as conflict:
                if not left:
                    raise _unavailable(conflict) from conflict
            except _UNAVAILABLE as trouble:
                raise _unavailable(trouble) from trouble
            except asyncpg.DataError as unfit:
                raise InvalidRequest(
                    [{"type": "value_error", "loc": ["body"], "msg": f"Value error, {unfit}"}]
                ) from unfit
            except asyncpg.ProgramLimitExceededError as too_long:
                raise InvalidRequest(
                    [{"type": "too_long", "loc": ["body"], "msg": "Value error, an id or name is too long"}]
                ) from too_long
        raise AssertionError("unreachable")


def _unavailable(trouble: BaseException) -> KernelOverloaded:
    return KernelOverloaded(
        f"the database cannot serve this now ({type(trouble).__name__})",
        status=503,
        retry_after_seconds=_RETRY_AFTER_SECONDS,
    )


async def _plan_once(connection: Connection) -> None:
    """Set once for each connection, since nothing resets it: `_nothing_to_reset`."""
    await connection.execute(_PLAN_ONCE)


async def _nothing_to_reset(_: Connection) -> None:
    """Nothing here sets, listens or locks beyond its transaction; asyncpg itself rolls back one left open.

    Its own reset would be a round trip more for each statement.
    """


async def _close(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    try:
        await asyncio.wait_for(pool.close(), timeout=3)
    except (TimeoutError, asyncpg.PostgresError, OSError):
        pool.terminate()
