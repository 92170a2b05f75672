"""Connections for httpx: HTTP/1.1 over plain sockets, and no more of it than a kernel's clients need.

httpx's own transport costs a client more CPU than a kernel needs for its answer. Here a request is one
write, and an answer is read by the parser of httptools. What is not plain (https, proxies, bodies that come
in pieces) goes to httpx's own. Nothing is sent twice: whoever asked knows whether that is right.

Connections carry no identity, so all clients of an event loop share those that are idle: thousands of agents
in one process need as many as have requests under way, not two each.
"""

from __future__ import annotations

import select
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

import anyio
import httptools
import httpx
from anyio.abc import ByteReceiveStream, SocketAttribute, SocketStream
from anyio.lowlevel import RunVar
from attrs import define, field

from cgworker.client.environment import proxy_for, trusted
from cgworker.errors import UsageError

_MOST_CONNECTIONS = 100  # of one client
_MOST_IDLE = 100  # to one origin, of all clients
_MOST_BYTES_A_READ = 65536
_SMALL_BYTES = 65536  # a socket takes as much without waiting for its peer

# Shorter than any server's patience, so that none is found closed just when it is used.
_IDLE_SECONDS = 4.0

_PLAIN_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})

Origin = tuple[str, int]


@define(eq=False)
class _Idle:
    """The connections of an event loop that wait for a request, and who may use them."""

    by_origin: dict[Origin, list[_Connection]] = field(factory=lambda: defaultdict(list))
    users: WeakSet[Connections] = field(factory=WeakSet)


_IDLE: RunVar[_Idle] = RunVar("cgworker_idle_connections")


class Connections(httpx.AsyncBaseTransport):
    """A transport for `httpx.AsyncClient`; runs on asyncio and trio.

    Args:
        ca_file: the authorities that are trusted; by default as the environment says (`surroundings.py`).
    """

    def __init__(self, ca_file: str | None = None) -> None:
        self._ca_file = ca_file
        self._proxies: dict[str, str | None] = {}
        self._under_way_count = 0
        self._ended: anyio.Event | None = None  # set when an exchange ends, if others wait for that
        self._others: dict[str | None, httpx.AsyncHTTPTransport] = {}
        self._is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange.

        Raises:
            httpx.TransportError: as httpx's own transport would.
            RuntimeError: it was closed.
            UsageError: a proxy cannot be used, or the authorities that are trusted cannot be read.
        """
        if self._is_closed:
            raise RuntimeError("this client has been closed")
        proxy = self._proxy_for(request.url)
        if proxy is not None or not _is_plain(request):
            return await self._other_transport(proxy).handle_async_request(request)
        timeouts = request.extensions.get("timeout", {})
        if self._under_way_count >= _MOST_CONNECTIONS:
            with _in_time(timeouts.get("pool"), httpx.PoolTimeout):
                await self._wait_for_room()
        self._under_way_count += 1
        try:
            return await self._exchange(request, timeouts)
        finally:
            self._under_way_count -= 1
            if self._ended is not None:
                self._ended.set()

    async def aclose(self) -> None:
        """Use no more; the last client to do so closes what is open, or does when its exchange ends."""
        self._is_closed = True
        idle = _idle_here()
        idle.users.discard(self)
        with anyio.CancelScope(shield=True):  # who is cancelled leaves none open either
            while idle.by_origin and not idle.users:
                _, connections = idle.by_origin.popitem()
                for connection in connections:
                    await anyio.aclose_forcefully(connection.stream)
        for transport in self._others.values():
            await transport.aclose()

    async def _wait_for_room(self) -> None:
        """A semaphore would do it as well, and take a kilobyte of each of thousands of clients."""
        while self._under_way_count >= _MOST_CONNECTIONS:
            if self._ended is None or self._ended.is_set():
                self._ended = anyio.Event()
            await self._ended.wait()

    def _proxy_for(self, url: httpx.URL) -> str | None:
        """As the environment said when this server was first asked."""
        server = f"{url.scheme}://{url.netloc.decode()}"
        if server not in self._proxies:
            self._proxies[server] = proxy_for(url)
        return self._proxies[server]

    def _other_transport(self, proxy: str | None) -> httpx.AsyncHTTPTransport:
        """httpx's own, made when it is needed: it reads certificates, which takes time."""
        if proxy not in self._others:
            try:
                self._others[proxy] = httpx.AsyncHTTPTransport(
                    verify=trusted(self._ca_file), proxy=proxy, trust_env=False
                )
            except (ValueError, ImportError, httpx.InvalidURL) as unusable:
                raise UsageError(f"a proxy that cannot be used: {unusable}") from unusable
        return self._others[proxy]

    async def _exchange(self, request: httpx.Request, timeouts: dict[str, float | None]) -> httpx.Response:
        origin = request.url.host, request.url.port or 80
        idle = self._idle[origin]
        connection = await _usable(idle) or await _connect(origin, timeouts.get("connect"))
        try:
            answer = await connection.exchange(_written(request), timeouts)
        except BaseException:  # a cancellation, too, leaves it halfway through an answer
            await anyio.aclose_forcefully(connection.stream)
            raise
        if answer.can_go_on and not answer.is_early and not self._is_closed and len(idle) < _MOST_IDLE:
            connection.idle_since = time.monotonic()
            idle.append(connection)
        else:
            await anyio.aclose_forcefully(connection.stream)
        return httpx.Response(answer.status, headers=answer.headers, content=bytes(answer.body))

    @property
    def _idle(self) -> dict[Origin, list[_Connection]]:
        idle = _idle_here()
        idle.users.add(self)
        return idle.by_origin


def _idle_here() -> _Idle:
    try:
        return _IDLE.get()
    except LookupError:
        _IDLE.set(idle := _Idle())
        return idle


async def _usable(idle: list[_Connection]) -> _Connection | None:
    """The one used last; those that cannot be used any more are closed."""
    while idle:
        connection = idle.pop()
        if connection.is_usable:
            return connection
        await anyio.aclose_forcefully(connection.stream)
    return None


def _is_plain(request: httpx.Request) -> bool:
    return (
        request.url.scheme == "http"
        and request.method in _PLAIN_METHODS
        and isinstance(request.stream, httpx.ByteStream)
    )


def _written(request: httpx.Request) -> bytes:
    """The request as it is sent, in one piece."""
    lines = [b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    lines += [name + b": " + value for name, value in request.headers.raw]
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.content


# ---------------------------------------------------------------- one connection


@define(eq=False)
class _Connection:
    """A connection to one origin, for one exchange at a time."""

    stream: SocketStream
    idle_since: float = 0.0

    @property
    def is_usable(self) -> bool:
        """Whether it is still open: there is nothing to read on one that waits for a request."""
        return time.monotonic() - self.idle_since < _IDLE_SECONDS and not _is_readable(self.stream)

    async def exchange(self, request: bytes, timeouts: dict[str, float | None]) -> _Answer:
        answer = _Answer()
        if len(request) <= _SMALL_BYTES:
            await self._send(request, timeouts)
        else:
            await self._send_and_listen(request, answer, timeouts)
        while not answer.is_whole:
            with _in_time(timeouts.get("read"), httpx.ReadTimeout), _translated(httpx.ReadError):
                await answer.read_more(self.stream)
        return answer

    async def _send(self, request: bytes, timeouts: dict[str, float | None]) -> None:
        with _in_time(timeouts.get("write"), httpx.WriteTimeout), _translated(httpx.WriteError):
            await self.stream.send(request)

    async def _send_and_listen(
        self, request: bytes, answer: _Answer, timeouts: dict[str, float | None]
    ) -> None:
        """Send a large request, and stop as soon as the server answers.

        A server that refuses a body by its declared length answers and closes without reading the body.
        Sending then fails, and the answer is lost unless it was read meanwhile.
        """
        failure: httpx.TransportError | None = None
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as sending:
                tasks.start_soon(self._listen, answer, sending)
                try:
                    await self._send(request, timeouts)
                except httpx.TransportError as error:
                    failure = error
            tasks.cancel_scope.cancel()
        if answer.is_early:
            return
        if failure is not None:
            raise failure

    async def _listen(self, answer: _Answer, sending: anyio.CancelScope) -> None:
        try:
            await answer.read_more(self.stream)
        except (httpx.TransportError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # the sender fails as well, or else the read that follows
        answer.is_early = not sending.cancel_called
        sending.cancel()


async def _connect(origin: Origin, seconds: float | None) -> _Connection:
    with _in_time(seconds, httpx.ConnectTimeout), _translated(httpx.ConnectError):
        return _Connection(await anyio.connect_tcp(*origin))


def _is_readable(stream: SocketStream) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([stream.extra(SocketAttribute.raw_socket)], [], [], 0)[0])
    poll = select.poll()
    poll.register(stream.extra(SocketAttribute.raw_socket), select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def _in_time(seconds: float | None, late: type[httpx.TimeoutException]) -> Iterator[None]:
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError as timeout:
        raise late(f"no progress within {seconds} s") from timeout


@contextmanager
def _translated(error: type[httpx.NetworkError]) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as broken:
        raise error(str(broken) or type(broken).__name__) from broken


# ---------------------------------------------------------------- one answer


@define(eq=False)
class _Answer:
    """An answer as it is read; its methods named on_ are what the parser calls."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(factory=list)
    body: bytearray = field(factory=bytearray)
    is_whole: bool = False
    can_go_on: bool = False
    is_early: bool = False  # it began before the whole request was sent
    _has_head: bool = False
    _parser: httptools.HttpResponseParser = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)

    async def read_more(self, stream: ByteReceiveStream) -> None:
        """Wait for the next bytes, and read them.

        Raises:
            httpx.RemoteProtocolError: the server hung up too early, or does not speak HTTP.
        """
        try:
            self._parser.feed_data(await stream.receive(_MOST_BYTES_A_READ))
        except anyio.EndOfStream:
            self._end()
        except httptools.HttpParserError as broken:
            raise httpx.RemoteProtocolError(f"the answer is not HTTP: {broken}") from broken

    def _end(self) -> None:
        """The server hung up: the end of an answer that has no other."""
        names = {name.lower() for name, _ in self.headers}
        if not self._has_head or names & {b"content-length", b"transfer-encoding"}:
            raise httpx.RemoteProtocolError("the server hung up before its answer was whole")
        self.is_whole = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._has_head = True

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        if self.status < 200:  # "go on" and the like: the answer is still to come
            self.headers.clear()
            self._has_head = False
            return
        self.is_whole = True
        self.can_go_on = self._parser.should_keep_alive()
