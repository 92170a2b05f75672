"""Find out whether a pooler such as PgBouncer is between the kernel and PostgreSQL, and in which mode.

Poolers do not announce themselves. But a pooler sends its clients a made-up number of the server's process,
and in transaction mode a server's connection is one client's now and another client's a moment later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum
from typing import TYPE_CHECKING

from cgworker.kernel.store.postgres.hosts import CONNECT_SECONDS, Hosts

if TYPE_CHECKING:
    from asyncpg import Connection, Record

_SERVER_PROCESS = "select pg_backend_pid()"
_LOOKS = 5
_LOOK_SECONDS = 2.0
_CLOSE_SECONDS = 2.0


class Pooling(Enum):
    """What is between a kernel and PostgreSQL."""

    NONE = "no pooler"
    SESSION = "a pooler in session mode"
    TRANSACTION = "a pooler in transaction mode"


async def find_pooling(hosts: Hosts) -> Pooling:
    """Return what is between this program and the database.

    Args:
        hosts: the hosts of the database.

    Raises:
        OSError, TimeoutError, asyncpg.PostgresError: the database cannot be reached.
    """
    async with _connected(hosts) as connection:
        process = await connection.fetchval(_SERVER_PROCESS)
        if process == connection.get_server_pid():
            return Pooling.NONE
        with suppress(TimeoutError):  # no connection is left for another client: each has its own
            async with asyncio.timeout(_LOOK_SECONDS), _connected(hosts) as other:
                if await _share(connection, process, other):
                    return Pooling.TRANSACTION
        return Pooling.SESSION


async def _share(connection: Connection[Record], process: int, other: Connection[Record]) -> bool:
    """Return whether two clients are seen to use the server's connections in turn."""
    for _ in range(_LOOKS):
        async with other.transaction():
            if await other.fetchval(_SERVER_PROCESS) == process:
                return True
        # The server's connection that came back last is given away first; or it is the next one's turn, and
        # of two it is the other one at the second look.
        for _ in range(2):
            if await connection.fetchval(_SERVER_PROCESS) != process:
                return True
    return False


@asynccontextmanager
async def _connected(hosts: Hosts) -> AsyncIterator[Connection[Record]]:
    # A statement without a name is gone with its transaction, whoever has the server's connection next.
    connection = await hosts.connect(statement_cache_size=0, timeout=CONNECT_SECONDS)
    try:
        yield connection
    finally:
        with suppress(TimeoutError):
            await connection.close(timeout=_CLOSE_SECONDS)
