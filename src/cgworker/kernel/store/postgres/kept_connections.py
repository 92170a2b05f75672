"""Keep the connections that have just been used out of the pool, for the next statements.

To take a connection out of asyncpg's pool and to return it makes a task and a hundred calls, twice as many as
the statement between the two.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    PooledConnection = PoolConnectionProxy[asyncpg.Record]

KEEP_SECONDS = 10.0
"""How long a connection is kept; the pool then sees to it, and closes one that is not used for long."""


class KeptConnections:
    """The connections that a program has taken out of a pool and that are free.

    Args:
        pool: the pool, which nobody else uses.
        timeout: for how many seconds to wait for a connection of the pool.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], timeout: float) -> None:
        self._pool = pool
        self._timeout = timeout
        self._free: list[PooledConnection] = []
        self._taken_at: dict[PooledConnection, float] = {}  # those that are out of the pool, free or not
        self._waiting_count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._returning: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def free_count(self) -> int:
        """How many connections are kept, and in nobody's use."""
        return len(self._free)

    async def take(self) -> PooledConnection:
        """Take the connection that was used last, or else one out of the pool.

        Raises:
            OSError, TimeoutError, asyncpg.PostgresError: none could be had.
        """
        while self._free:
            connection = self._free.pop()
            if _is_open(connection):
                return connection
            await self.put_back(connection)
        self._waiting_count += 1
        try:
            connection = await self._pool.acquire(timeout=self._timeout)
        finally:
            self._waiting_count -= 1
        self._taken_at[connection] = asyncio.get_running_loop().time()
        return connection

    def keep(self, connection: PooledConnection) -> bool:
        """Keep a connection whose work has succeeded; return False if it belongs back into the pool.

        It does if somebody waits for one, or if it has been out of the pool for long.
        """
        loop = asyncio.get_running_loop()
        is_old = self._taken_at[connection] + KEEP_SECONDS < loop.time()
        if is_old or self._waiting_count or self._is_closed:
            return False
        self._free.append(connection)
        if self._timer is None:
            self._timer = loop.call_later(KEEP_SECONDS, self._put_back_later)
        return True

    async def put_back(self, connection: PooledConnection) -> None:
        """Put a connection back into the pool."""
        del self._taken_at[connection]
        # asyncpg fails if the connection is lost while it is being released. That must not take the place of
        # an answer, or of a cancellation.
        with suppress(asyncpg.InternalClientError):
            await self._pool.release(connection)

    async def close(self) -> None:
        """Put all free connections back into the pool, and keep no more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        await self._put_back_all()
        await asyncio.gather(*self._returning, return_exceptions=True)

    def _put_back_later(self) -> None:
        self._timer = None
        task = asyncio.create_task(self._put_back_all())
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def _put_back_all(self) -> None:
        while self._free:
            await self.put_back(self._free.pop())


def _is_open(connection: PooledConnection) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:  # it was lost, and the pool has forgotten it
        return False
