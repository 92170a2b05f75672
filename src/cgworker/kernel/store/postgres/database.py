"""The connection pool, and the translation of database errors to errors of cgworker.

A failure of the database becomes a 503 with Retry-After. It must never become a 409, which clients take for a
lost lease (difference 1).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from operator import methodcaller
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import asyncpg

from cgworker.errors import InvalidRequest, KernelOverloaded
from cgworker.kernel.store.postgres.host_connection import HostConnection
from cgworker.kernel.store.postgres.hosts import CONNECT_SECONDS, Hosts
from cgworker.kernel.store.postgres.kept_connections import KeptConnections
from cgworker.kernel.store.postgres.pooling import Pooling, find_pooling

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    from cgworker.kernel.store.postgres.kept_connections import PooledConnection

T = TypeVar("T")
Row = asyncpg.Record
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

_RETRIES = 5
_ACQUIRE_SECONDS = CONNECT_SECONDS
_COMMAND_SECONDS = 30.0
_GIVE_UP_SECONDS = (
    _COMMAND_SECONDS + 2.0
)  # the server cancels a statement sooner, but for a commit that waits

_RETRY_AFTER_SECONDS = 1.0

# Only startup settings that every pooler accepts; PgBouncer refuses others. The name tells these connections
# from those of kernels of 0.2, called "cgworker"; see the migrations that run `unless connected`.
_SETTINGS = {"timezone": "UTC", "application_name": "cgworker kernel"}

# Plan each statement once, for any values: planning a frequent statement costs more than running it. The plan
# is kept while the tables grow, so it must not be one for small tables. `fetch_planned` plans each time.
PLAN_ONCE = "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set jit = off"
_LIMIT_TIME = f"""
select set_config('statement_timeout', '{_COMMAND_SECONDS:g}s', false)
where current_setting('statement_timeout') = '0'
"""

# PostgreSQL's own compression takes 1.5 ms for a payload of 32 KB, ten times as long as LZ4.
_COMPRESS_QUICKLY = """
select set_config(name, 'lz4', false)
from pg_settings
where name = 'default_toast_compression' and source = 'default' and 'lz4' = any (enumvals)
"""


class ProjectClosedError(asyncpg.PostgresError):
    """A write to a project that is closed, because it is moved to another database (migration 0016)."""

    sqlstate = "XCG01"


# Two transactions conflicted, and PostgreSQL cancelled one of them: run it again.
_CONFLICTS: tuple[type[asyncpg.PostgresError], ...] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidCachedStatementError,
)
_DUPLICATES_TOO: tuple[type[asyncpg.PostgresError], ...] = (*_CONFLICTS, asyncpg.UniqueViolationError)

# The database is unreachable, starting, stopping, overloaded, or lacks the schema or the permissions.
_UNAVAILABLE: tuple[type[Exception], ...] = (
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
    """A pool of connections to PostgreSQL, all with the time zone UTC.

    Every call raises KernelOverloaded (503) while the database is unavailable, and InvalidRequest (422) for
    values that it cannot hold.

    Attributes:
        dsn: the address of the database.
        pooling: what is between this program and the database.
        listen_hosts: the hosts at which it can be listened to; None behind a pooler in transaction mode.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], dsn: str, hosts: Hosts, pooling: Pooling) -> None:
        self._pool = pool
        self._connections = KeptConnections(pool, _ACQUIRE_SECONDS)
        self._hosts = hosts
        self._began_at: dict[object, float] = {}  # the callers that wait for the database, longest first
        self.dsn = dsn
        self.pooling = pooling
        self.listen_hosts: Hosts | None = None if pooling is Pooling.TRANSACTION else hosts

    @classmethod
    @asynccontextmanager
    async def open(cls, dsn: str, *, pool_size: int = 10) -> AsyncIterator[Database]:
        """Open a pool, and close it at the end of the block.

        Args:
            dsn: the address of the database.
            pool_size: the maximum number of connections.

        Raises:
            OSError, asyncpg.PostgresError: the database cannot be reached.
        """
        hosts = Hosts(dsn)
        pooling = await find_pooling(hosts)
        # In transaction mode no statement has the server's connection of the one before: nothing can be set
        # or prepared there. Each statement is then planned for its values, by the role's own settings.
        shared = {"statement_cache_size": 0} if pooling is Pooling.TRANSACTION else {"init": _plan_once}
        pool = await asyncpg.create_pool(
            dsn,
            connect=hosts.connect,
            min_size=0,  # asyncpg would keep a minimum in the background, and log an error each time it fails
            max_size=pool_size,
            connection_class=HostConnection,
            command_timeout=_GIVE_UP_SECONDS,
            server_settings=_SETTINGS,
            reset=_nothing_to_reset,
            **shared,
        )
        try:
            async with pool.acquire():
                pass  # fail now if the database cannot be reached
            database = cls(pool, dsn, hosts, pooling)
            try:
                async with hosts.followed(database._longest_wait):
                    yield database
            finally:
                await database._connections.close()
        finally:
            await _close(pool)

    def _longest_wait(self) -> float:
        """For how many seconds somebody has waited for the database."""
        now = asyncio.get_running_loop().time()
        return now - next(iter(self._began_at.values()), now)

    @property
    def used_count(self) -> int:
        """The number of connections in use."""
        return self._pool.get_size() - self._pool.get_idle_size() - self._connections.free_count

    @property
    def open_count(self) -> int:
        """The number of open connections."""
        return self._pool.get_size()

    async def fetch(self, statement: str, *values: Any) -> list[Row]:
        """Return all rows of one statement, which runs as its own transaction."""
        return await self._run(methodcaller("fetch", statement, *values))

    async def fetch_retrying_duplicates(self, statement: str, *values: Any) -> list[Row]:
        """Like `fetch`, for a statement that checks for existing keys and inserts the others.

        If another transaction inserts a key between the check and the insert, the insert violates the unique
        key. The statement is then run again, and finds the key.
        """
        return await self._run(methodcaller("fetch", statement, *values), _DUPLICATES_TOO)

    async def fetch_planned(self, statement: str, *values: Any) -> list[Row]:
        """Like `fetch`, but plan for these values: no single plan suits optional filters."""

        async def fetch(connection: Connection) -> list[Row]:
            await connection.execute(PLAN_EACH_TIME)
            return await connection.fetch(statement, *values)

        return await self.transact(fetch)

    async def fetchrow(self, statement: str, *values: Any) -> Row | None:
        """Return the first row of one statement, or None."""
        return await self._run(methodcaller("fetchrow", statement, *values))

    async def fetchval(self, statement: str, *values: Any) -> Any:
        """Return the first value of the first row of one statement, or None."""
        return await self._run(methodcaller("fetchval", statement, *values))

    async def execute(self, statement: str, *values: Any) -> str:
        """Run one statement and return its command tag."""
        return await self._run(methodcaller("execute", statement, *values))

    async def transact(
        self, work: Callable[[Connection], Awaitable[T]], *, retries_duplicates: bool = False
    ) -> T:
        """Run several statements as one transaction.

        Args:
            work: runs the statements; it is called again after a conflict with another transaction.
            retries_duplicates: call it again after a violated unique key too.
        """

        async def in_transaction(connection: Connection) -> T:
            cancelled: asyncio.CancelledError | None = None
            try:
                async with connection.transaction():
                    try:
                        return await work(connection)
                    except asyncio.CancelledError as caught:
                        cancelled = caught
                        raise
            except _UNAVAILABLE:
                if cancelled is not None:  # it ended the connection, so that the rollback failed in its place
                    raise cancelled from None
                raise

        return await self._run(in_transaction, _DUPLICATES_TOO if retries_duplicates else _CONFLICTS)

    async def _run(
        self,
        work: Callable[[Connection], Awaitable[T]],
        conflicts: tuple[type[asyncpg.PostgresError], ...] = _CONFLICTS,
    ) -> T:
        for left in reversed(range(_RETRIES)):
            try:
                return await self._work_on_a_connection(work)
            except conflicts as conflict:
                if not left:
                    raise _unavailable(conflict) from conflict
            except ProjectClosedError as closed:
                raise project_closed() from closed
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

    async def _work_on_a_connection(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do the work on a connection, and note since when its caller has waited for the database."""
        mark = object()
        self._began_at[mark] = asyncio.get_running_loop().time()
        connection: PooledConnection | None = None
        is_kept = False
        try:
            connection = await self._connections.take()
            result = await work(connection)
            is_kept = self._connections.keep(connection)
            return result
        except asyncpg.ReadOnlySQLTransactionError:
            if connection is not None:
                connection.terminate()  # the server is no primary any more: the next connection finds it
            raise
        finally:
            del self._began_at[mark]
            if connection is not None and not is_kept:
                await self._connections.put_back(connection)


def project_closed() -> KernelOverloaded:
    """Return the refusal of a project that is moved, or has been: it is answered elsewhere before long."""
    return KernelOverloaded(
        "the project is being moved to another database: repeat the request",
        status=503,
        retry_after_seconds=_RETRY_AFTER_SECONDS,
    )


def _unavailable(trouble: BaseException) -> KernelOverloaded:
    return KernelOverloaded(
        f"the database cannot serve this now ({type(trouble).__name__})",
        status=503,
        retry_after_seconds=_RETRY_AFTER_SECONDS,
    )


async def _plan_once(connection: Connection) -> None:
    """Set up a new connection; the settings last, because `_nothing_to_reset` does not reset them."""
    await connection.execute(f"{PLAN_ONCE}; {_LIMIT_TIME}; {_COMPRESS_QUICKLY}")


async def _nothing_to_reset(_: Connection) -> None:
    """Skip asyncpg's reset of a returned connection, which would cost a round trip per statement.

    No code here leaves settings, listeners or locks behind, and asyncpg rolls back open transactions itself.
    """


async def _close(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    try:
        await asyncio.wait_for(pool.close(), timeout=3)
    except (TimeoutError, asyncpg.PostgresError, OSError):
        pool.terminate()
