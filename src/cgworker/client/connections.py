"""Connections for httpx: the part of HTTP/1.1 over plain sockets that clients of a kernel need.

httpx's own transport takes more CPU in the client than the answer takes in the kernel. Here a request is
one write, and httptools parses the answer. Everything else (https, proxies, streamed bodies) goes to
httpx's own transport. Nothing is sent twice: only the caller knows whether a repeat is safe.

Connections carry no identity, so all clients of an event loop share the idle ones: thousands of agents in
one process need as many connections as there are requests under way, not two each.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from weakref import WeakSet

import anyio
import httpx
from anyio.lowlevel import RunVar
from attrs import define, field

from cgworker.client.environment import proxy_for, trusted
from cgworker.client.http1 import (
    Address,
    HttpConnection,
    Origin,
    connect,
    in_time,
    plain_request_bytes,
    read_address,
    request_bytes,
)
from cgworker.client.response import PlainResponse, ResponseParser
from cgworker.errors import UsageError

_MAX_CONNECTIONS = 100  # of one client, long polls apart
_MAX_IDLE = 100  # to one origin, of all clients

_PLAIN_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})


@define(eq=False)
class _Idle:
    """The idle connections of an event loop, and the clients that may use them."""

    by_origin: dict[Origin, list[HttpConnection]] = field(factory=lambda: defaultdict(list))
    users: WeakSet[Connections] = field(factory=WeakSet)


_IDLE: RunVar[_Idle] = RunVar("cgworker_idle_connections")


class Connections(httpx.AsyncBaseTransport):
    """A transport for `httpx.AsyncClient`; it runs on asyncio and trio.

    Args:
        ca_file: a PEM file with the trusted certificate authorities; None takes those of the environment
            (see `environment.trusted`).
    """

    def __init__(self, ca_file: str | None = None) -> None:
        self._ca_file = ca_file
        self._proxies: dict[str, str | None] = {}
        self._under_way_count = 0
        self._ended: anyio.Event | None = None  # set when an exchange ends, if another one waits for that
        self._others: dict[str | None, httpx.AsyncHTTPTransport] = {}
        self._is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read its answer.

        Args:
            request: the request.

        Returns:
            The answer, with its body read.

        Raises:
            httpx.TransportError: the exchange failed, as with httpx's own transport.
            RuntimeError: the caller's fault: the transport has been closed.
            UsageError: the proxy or the certificate authorities of the environment cannot be used.
        """
        address = read_address(str(request.url))
        if not (_is_plain(request) and self.reaches(address)):
            self._check_open()
            proxy = self._proxy_for(address)
            return await self._other_transport(proxy).handle_async_request(request)
        timeouts = request.extensions.get("timeout", {})
        waits = "wait=" in request.headers.get("prefer", "")
        answer = await self._exchange(address.origin, request_bytes(request), timeouts, waits=waits)
        return answer.httpx_response()

    def reaches(self, address: Address) -> bool:
        """Return whether a server is reached by plain HTTP and without a proxy, as `send` does.

        Args:
            address: the server.
        """
        return address.url.scheme == "http" and self._proxy_for(address) is None

    async def send(
        self, method: str, address: Address, headers: Mapping[str, str], content: bytes, timeout: float
    ) -> httpx.Response | PlainResponse:
        """Send a request to a server that this reaches, and read its answer.

        Args:
            method: the HTTP method.
            address: where to.
            headers: the headers, without `Host` and `Content-Length`.
            content: the body; empty if there is none.
            timeout: how long to wait for a connection, and for each part of the answer, in seconds.

        Raises:
            httpx.TransportError: the exchange failed.
            RuntimeError: the caller's fault: the transport has been closed.
        """
        request = plain_request_bytes(method, address, headers, content)
        timeouts: dict[str, float | None] = dict.fromkeys(("connect", "read", "write", "pool"), timeout)
        waits = "wait=" in headers.get("prefer", "")
        return (await self._exchange(address.origin, request, timeouts, waits=waits)).response()

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("this client has been closed")

    async def _exchange(
        self, origin: Origin, request: bytes, timeouts: dict[str, float | None], *, waits: bool
    ) -> ResponseParser:
        self._check_open()
        if waits:  # a hundred long polls must not keep others waiting
            return await self._exchange_at_once(origin, request, timeouts)
        if self._under_way_count >= _MAX_CONNECTIONS:
            with in_time(timeouts.get("pool"), httpx.PoolTimeout):
                await self._wait_for_room()
        self._under_way_count += 1
        try:
            return await self._exchange_at_once(origin, request, timeouts)
        finally:
            self._under_way_count -= 1
            if self._ended is not None:
                self._ended.set()

    async def aclose(self) -> None:
        """Close the transport.

        The idle connections of the event loop are closed by the last client that uses them.
        """
        self._is_closed = True
        idle = _idle_here()
        idle.users.discard(self)
        with anyio.CancelScope(shield=True):  # a cancelled client must not leave connections open
            while idle.by_origin and not idle.users:
                _, connections = idle.by_origin.popitem()
                for connection in connections:
                    await anyio.aclose_forcefully(connection.stream)
        for transport in self._others.values():
            await transport.aclose()

    async def _wait_for_room(self) -> None:
        """Wait until fewer requests are under way. A semaphore would cost every client a kilobyte."""
        while self._under_way_count >= _MAX_CONNECTIONS:
            if self._ended is None or self._ended.is_set():
                self._ended = anyio.Event()
            await self._ended.wait()

    def _proxy_for(self, address: Address) -> str | None:
        """Return the proxy for a server. The environment is read once per server."""
        if address.server not in self._proxies:
            self._proxies[address.server] = proxy_for(address.url)
        return self._proxies[address.server]

    def _other_transport(self, proxy: str | None) -> httpx.AsyncHTTPTransport:
        """Return httpx's own transport. It is made on demand, since reading certificates takes time."""
        if proxy not in self._others:
            try:
                self._others[proxy] = httpx.AsyncHTTPTransport(
                    verify=trusted(self._ca_file), proxy=proxy, trust_env=False
                )
            except (ValueError, ImportError, httpx.InvalidURL) as unusable:
                raise UsageError(f"a proxy that cannot be used: {unusable}") from unusable
        return self._others[proxy]

    async def _exchange_at_once(
        self, origin: Origin, request: bytes, timeouts: dict[str, float | None]
    ) -> ResponseParser:
        idle = self._idle[origin]
        connection = await _usable(idle) or await connect(origin, timeouts.get("connect"))
        try:
            answer = await connection.exchange(request, timeouts)
        except BaseException:  # after a cancellation too, the rest of the answer is still to come
            await anyio.aclose_forcefully(connection.stream)
            raise
        if answer.can_go_on and not answer.is_early and not self._is_closed and len(idle) < _MAX_IDLE:
            connection.idle_since = time.monotonic()
            idle.append(connection)
        else:
            await anyio.aclose_forcefully(connection.stream)
        return answer

    @property
    def _idle(self) -> dict[Origin, list[HttpConnection]]:
        idle = _idle_here()
        idle.users.add(self)
        return idle.by_origin


def _idle_here() -> _Idle:
    try:
        return _IDLE.get()
    except LookupError:
        _IDLE.set(idle := _Idle())
        return idle


async def _usable(idle: list[HttpConnection]) -> HttpConnection | None:
    """Return the connection that was used last; close the ones that cannot be used any more."""
    while idle:
        connection = idle.pop()
        if connection.is_usable:
            return connection
        await anyio.aclose_forcefully(connection.stream)
    return None


def _is_plain(request: httpx.Request) -> bool:
    return request.method in _PLAIN_METHODS and isinstance(request.stream, httpx.ByteStream)
