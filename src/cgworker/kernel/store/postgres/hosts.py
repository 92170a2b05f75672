"""Connect to one of the hosts of an address: to the primary, soon, even if another host is silent.

asyncpg tries the hosts one after the other, and a host that takes connections and says nothing keeps it until
its whole time is over. Here each host gets a second before the next one is tried as well. A host is accepted
when it has committed something (host_connection.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
from asyncio.staggered import staggered_race
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from weakref import WeakSet

import asyncpg

from cgworker.kernel.store.postgres.host_connection import HostConnection

logger: logging.Logger = logging.getLogger("cgworker.kernel")

CONNECT_SECONDS = 10.0
"""How long all hosts together may take."""

_NEXT_HOST_SECONDS = 1.0
_CLOSE_SECONDS = 2.0

# How often it is seen which host is the primary, also once somebody waits too long; how long a host may take.
_LOOK_EVERY_SECONDS = 5.0
_OVERDUE_SECONDS = 1.0
_TICK_SECONDS = 0.25
_LOOK_SECONDS = 0.5

# One of several hosts is the primary, the others are standbys, which take no writes.
_ATTRIBUTES = "target_session_attrs"
_WRITABLE = "read-write"

_REFUSALS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # such as the refusal of a standby
)


class Hosts:
    """The hosts of a PostgreSQL address, `postgresql://user@one:5432,two:5432/database`.

    Args:
        dsn: the address. If it names several hosts and no `target_session_attrs`, only one that takes writes
            is connected to.

    Attributes:
        are_several: whether there is another host to go to.
    """

    def __init__(self, dsn: str) -> None:
        self._dsns = split_hosts(dsn)
        self.are_several: bool = len(self._dsns) > 1
        self._timeline = 0
        self._connections: WeakSet[HostConnection] = WeakSet()
        self._limits: dict[asyncio.Timeout, str] = {}  # of connections that are being made
        self._closing: set[asyncio.Task[None]] = set()

    async def connect(
        self,
        dsn: str | None = None,  # noqa: ARG002  # a pool of asyncpg passes it
        *,
        timeout: float = CONNECT_SECONDS,
        **options: Any,
    ) -> HostConnection:
        """Connect to the first host that accepts; it is the first one to be tried the next time.

        Args:
            dsn: ignored.
            timeout: seconds for all hosts together.
            options: what else `asyncpg.connect` takes.

        Raises:
            ValueError, asyncpg.ClientConfigurationError: the address is invalid.
            OSError, TimeoutError, asyncpg.PostgresError: no host accepts.
        """
        dsns = self._dsns
        if not self.are_several:
            try:
                return await self._connect_to(dsns[0], timeout, **options)
            except asyncpg.TargetServerAttributeNotMatched as unwanted:
                raise _refusal(dsns, [unwanted]) from unwanted
        tries = [partial(self._connect_to, each, timeout, **options) for each in dsns]
        connection: HostConnection | None
        connection, index, refusals = await staggered_race(tries, _NEXT_HOST_SECONDS)
        if connection is None or index is None:
            if self._dsns[0] != dsns[0]:  # a look has found the primary meanwhile
                return await self.connect(timeout=timeout, **options)
            raise _refusal(dsns, refusals)
        self._prefer(connection.dsn)
        self._connections.add(connection)
        return connection

    @asynccontextmanager
    async def followed(self, longest_wait: Callable[[], float] = float) -> AsyncIterator[None]:
        """Go where the primary goes, until the block ends.

        Args:
            longest_wait: for how many seconds somebody has waited for a host; by default nobody has.
        """
        if not self.are_several:
            yield
            return
        following = asyncio.create_task(self._follow(longest_wait))
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self, longest_wait: Callable[[], float]) -> None:
        time = asyncio.get_running_loop().time
        looked_at = time()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            if longest_wait() > _OVERDUE_SECONDS or time() - looked_at > _LOOK_EVERY_SECONDS:
                try:
                    await self.look()
                except Exception:
                    logger.exception("looking for the primary has a fault and goes on")
                looked_at = time()

    async def look(self) -> None:
        """See which host is the primary now, and leave those that are not.

        A host is left if it does not commit and another one does, or if another one was promoted since: its
        connections are ended, and nobody waits for new ones. While no host commits, all is left as it is.
        """
        dsns = self._dsns
        timelines = await self._timelines_of(dsns)
        best = max(dsns, key=timelines.__getitem__)  # of equals the first, which is in use
        if timelines[best] < 0:
            return
        self._prefer(best)
        for connection in list(self._connections):
            if timelines[connection.dsn] < timelines[best]:
                connection.leave()
        for limit, dsn in list(self._limits.items()):
            if timelines[dsn] < timelines[best] and not limit.expired():
                limit.reschedule(0)

    async def _timelines_of(self, dsns: Sequence[str]) -> Mapping[str, int]:
        """Return the timelines of hosts; this stops waiting once it finds one that was promoted."""
        known, timelines = self._timeline, dict.fromkeys(dsns, -1)

        async def ask(dsn: str) -> None:
            timelines[dsn] = await self._timeline_of(dsn)

        asking = {asyncio.create_task(ask(dsn)) for dsn in dsns}
        try:
            for asked in asyncio.as_completed(asking):
                await asked
                if max(timelines.values()) > known:
                    break
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        return timelines

    async def _timeline_of(self, dsn: str) -> int:
        """Return the timeline of a host, or -1 if it does not commit within its share of the time."""
        try:
            connection = await self._connect_to(dsn, _LOOK_SECONDS, statement_cache_size=0)
        except _REFUSALS:
            return -1
        self._close(connection)
        return connection.timeline

    async def _connect_to(self, dsn: str, timeout: float, **options: Any) -> HostConnection:
        if self.are_several and "PGTARGETSESSIONATTRS" not in os.environ and _ATTRIBUTES not in dsn:
            options[_ATTRIBUTES] = _WRITABLE
        options["connection_class"] = HostConnection
        async with asyncio.timeout(timeout) as limit:
            self._limits[limit] = dsn
            try:
                connection: HostConnection = await asyncpg.connect(dsn, timeout=timeout, **options)
                connection.dsn = dsn
                await self._prove(connection)
            finally:
                del self._limits[limit]
        self._timeline = connection.timeline
        return connection

    async def _prove(self, connection: HostConnection) -> None:
        """Let the server commit; close a connection to one that cannot, or is behind a promotion."""
        try:
            await connection.try_to_commit()
            if self.are_several and connection.timeline < self._timeline:
                raise ConnectionError(
                    "a primary from before a failover, to be made a standby "
                    f"(timeline {connection.timeline}, not {self._timeline})"
                )
        except BaseException:
            self._close(connection)
            raise

    def _prefer(self, dsn: str) -> None:
        self._dsns = (dsn, *(each for each in self._dsns if each != dsn))

    def _close(self, connection: HostConnection) -> None:
        """Close a connection in the background; a server that is silent is left at once."""

        async def close() -> None:
            try:
                await connection.close(timeout=_CLOSE_SECONDS)
            except _REFUSALS:
                connection.terminate()

        task = asyncio.create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def split_hosts(dsn: str) -> tuple[str, ...]:
    """Return an address for each host of one, in their order.

    Args:
        dsn: the address; its hosts are in front of the path, or in `?host=`, separated by commas.
    """
    address = urlsplit(dsn)
    login, at, hosts = address.netloc.rpartition("@")
    if "," in hosts:
        return tuple(urlunsplit(address._replace(netloc=f"{login}{at}{host}")) for host in hosts.split(","))
    query = dict(parse_qsl(address.query))
    if hosts or "," not in query.get("host", ""):
        return (dsn,)
    names = query["host"].split(",")
    ports = query.get("port", "").split(",")
    each_port = ports * len(names) if len(ports) == 1 else ports
    queries = ({**query, "host": name, "port": port} for name, port in zip(names, each_port, strict=True))
    return tuple(
        urlunsplit(address._replace(query=urlencode({k: v for k, v in each.items() if v})))
        for each in queries
    )


def _refusal(dsns: Sequence[str], refusals: Sequence[BaseException | None]) -> BaseException:
    """Return the error for an address of which no host accepts."""
    for refusal in refusals:
        if isinstance(refusal, ValueError | asyncpg.ClientConfigurationError):
            return refusal  # the address is wrong, as for all hosts
    told = (
        f"{urlsplit(dsn).netloc.rpartition('@')[2] or 'host'}: {_why(refusal)}"
        for dsn, refusal in zip(dsns, refusals, strict=False)
    )
    return ConnectionError(f"no host takes writes ({'; '.join(told)})")


def _why(refusal: BaseException | None) -> str:
    if isinstance(refusal, asyncpg.TargetServerAttributeNotMatched):
        return "not the wanted kind of server, such as a standby"
    return " ".join(str(refusal or "").split()) or type(refusal).__name__
