"""Connect to one of the hosts of an address: to the primary, soon, even if another host is silent.

asyncpg tries the hosts one after the other, and a host that takes connections and says nothing keeps it until
its whole time is over. Here each host gets a second before the next one is tried as well.
"""

from __future__ import annotations

import os
from asyncio.staggered import staggered_race
from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

CONNECT_SECONDS = 10.0
"""How long all hosts together may take."""

_NEXT_HOST_SECONDS = 1.0

# One of several hosts is the primary, the others are standbys, which take no writes.
_ATTRIBUTES = "target_session_attrs"
_WRITABLE = "read-write"


class Hosts:
    """The hosts of a PostgreSQL address, `postgresql://user@one:5432,two:5432/database`.

    Args:
        dsn: the address. If it names several hosts and no `target_session_attrs`, only one that takes writes
            is connected to.
    """

    def __init__(self, dsn: str) -> None:
        self._dsns = split_hosts(dsn)

    async def connect(
        self,
        dsn: str | None = None,  # noqa: ARG002  # a pool of asyncpg passes it
        *,
        timeout: float = CONNECT_SECONDS,
        **options: Any,
    ) -> asyncpg.Connection[asyncpg.Record]:
        """Connect to the first host that accepts; it is the first one to be tried the next time.

        Args:
            dsn: ignored.
            timeout: seconds for all hosts together.
            options: what else `asyncpg.connect` takes.

        Raises:
            ValueError, asyncpg.ClientConfigurationError: the address is invalid.
            OSError, TimeoutError, asyncpg.PostgresError: no host accepts.
        """
        if len(self._dsns) == 1:
            try:
                return await asyncpg.connect(self._dsns[0], timeout=timeout, **options)
            except asyncpg.TargetServerAttributeNotMatched as unwanted:
                raise _refusal(self._dsns, [unwanted]) from unwanted
        if "PGTARGETSESSIONATTRS" not in os.environ and _ATTRIBUTES not in self._dsns[0]:
            options[_ATTRIBUTES] = _WRITABLE
        dsns = tuple(self._dsns)
        tries = [partial(asyncpg.connect, each, timeout=timeout, **options) for each in dsns]
        connection: asyncpg.Connection[asyncpg.Record]
        connection, index, refusals = await staggered_race(tries, _NEXT_HOST_SECONDS)
        if index is None:
            raise _refusal(dsns, refusals)
        self._dsns = (dsns[index], *dsns[:index], *dsns[index + 1 :])
        return connection


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
