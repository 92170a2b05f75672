"""HTTP/1.1 over one plain socket: write a request, and read the answer."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import anyio
import httpx
from anyio.abc import ByteStream, SocketAttribute
from attrs import define, field, frozen

from cgworker.client.asyncio_stream import AsyncioStream, on_asyncio
from cgworker.client.response import ResponseParser

_MAX_BYTES_A_READ = 262144  # as much as asyncio reads at once
_SMALL_BYTES = 65536  # a socket accepts this much without waiting for its peer

# Shorter than the keep-alive timeouts of servers, so that no connection is closed just when it is used.
_IDLE_SECONDS = 4.0

_BODILESS = frozenset({"GET", "HEAD", "DELETE"})  # methods whose requests do not tell that they have no body

Origin = tuple[str, int]
"""The host and port of a server."""


def request_bytes(request: httpx.Request) -> bytes:
    """Return the bytes of a request.

    Args:
        request: the request; its body is in memory.
    """
    lines = [b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    lines += [name + b": " + value for name, value in request.headers.raw]
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.content


@frozen
class Address:
    """A URL, taken apart.

    Attributes:
        url: the URL.
        server: its scheme, host and port.
        origin: its host and port.
        head: what the first lines of a request say of it.
    """

    url: httpx.URL
    server: str
    origin: Origin
    head: bytes


@lru_cache(maxsize=128)  # this takes longer than sending a request, and many requests have the same address
def read_address(text: str) -> Address:
    """Return the parts of a URL.

    Args:
        text: the URL.

    Raises:
        httpx.InvalidURL: it is none.
    """
    url = httpx.URL(text)
    return Address(
        url,
        f"{url.scheme}://{url.netloc.decode()}",
        (url.host, url.port or 80),
        b" %s HTTP/1.1\r\nHost: %s\r\n" % (url.raw_path, url.netloc),
    )


def plain_request_bytes(method: str, address: Address, headers: Mapping[str, str], content: bytes) -> bytes:
    """Return the bytes of a request, for which no `httpx.Request` is made.

    Args:
        method: the HTTP method.
        address: where it goes.
        headers: its headers, without `Host` and `Content-Length`.
        content: its body; empty if it has none.
    """
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    length = b"Content-Length: %d\r\n" % len(content) if content or method not in _BODILESS else b""
    return b"".join([method.encode(), address.head, lines.encode(), length, b"\r\n", content])


@define(eq=False)
class HttpConnection:
    """A connection to one origin; it carries one exchange at a time."""

    stream: ByteStream
    idle_since: float = 0.0
    _socket: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._socket = self.stream.extra(SocketAttribute.raw_socket)

    @property
    def is_usable(self) -> bool:
        """True if the connection is still open: an idle one has nothing to read unless it was closed."""
        if time.monotonic() - self.idle_since >= _IDLE_SECONDS or _is_readable(self._socket):
            return False
        return not isinstance(self.stream, AsyncioStream) or self.stream.is_quiet

    async def exchange(self, request: bytes, timeouts: dict[str, float | None]) -> ResponseParser:
        """Send a request and read its answer.

        Args:
            request: the bytes of the request.
            timeouts: httpx's timeouts, in seconds, by kind.

        Raises:
            httpx.TransportError: the exchange failed.
        """
        answer = ResponseParser()
        if len(request) <= _SMALL_BYTES:
            if isinstance(self.stream, AsyncioStream):
                await self._exchange_small(self.stream, request, answer, timeouts.get("read"))
                return answer
            with in_time(timeouts.get("read"), httpx.ReadTimeout):  # one limit, as it is sent at once
                await self._send(request)
                await self._read_more(answer)
        else:
            await self._send_and_listen(request, answer, timeouts)
        while not answer.is_whole:
            with in_time(timeouts.get("read"), httpx.ReadTimeout):
                await self._read_more(answer)
        return answer

    async def _exchange_small(
        self, stream: AsyncioStream, request: bytes, answer: ResponseParser, seconds: float | None
    ) -> None:
        """Do what `exchange` does, without what anyio makes for each limit of time."""
        try:
            await stream.send(request)
            while not answer.is_whole:
                await answer.read_more(partial(stream.receive_in_time, seconds))
        except TimeoutError as timeout:
            raise httpx.ReadTimeout(f"no progress within {seconds} s") from timeout
        except (OSError, anyio.BrokenResourceError) as broken:
            raise httpx.ReadError(str(broken) or type(broken).__name__) from broken

    async def _send(self, request: bytes) -> None:
        with _translated(httpx.WriteError):
            await self.stream.send(request)

    async def _read_more(self, answer: ResponseParser) -> None:
        with _translated(httpx.ReadError):
            await answer.read_more(self._receive)

    async def _receive(self) -> bytes:
        return await self.stream.receive(_MAX_BYTES_A_READ)

    async def _send_and_listen(
        self, request: bytes, answer: ResponseParser, timeouts: dict[str, float | None]
    ) -> None:
        """Send a large request, and stop as soon as the server answers.

        A server that refuses a body by its declared length answers and closes without reading the body.
        Sending then fails, and the answer would be lost if it were not read meanwhile.
        """
        failure: httpx.TransportError | None = None
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as sending:
                tasks.start_soon(self._listen, answer, sending)
                try:
                    with in_time(timeouts.get("write"), httpx.WriteTimeout):
                        await self._send(request)
                except httpx.TransportError as error:
                    failure = error
            tasks.cancel_scope.cancel()
        if answer.is_early:
            return
        if failure is not None:
            raise failure

    async def _listen(self, answer: ResponseParser, sending: anyio.CancelScope) -> None:
        try:
            await answer.read_more(self._receive)
        except (httpx.TransportError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # the sender fails too, or else the read that follows
        answer.is_early = not sending.cancel_called
        sending.cancel()


async def connect(origin: Origin, seconds: float | None) -> HttpConnection:
    """Open a connection.

    Args:
        origin: the server's host and port.
        seconds: how long to wait for the connection; None waits as long as it takes.

    Raises:
        httpx.ConnectError: the server cannot be reached.
        httpx.ConnectTimeout: there is no connection in time.
    """
    with in_time(seconds, httpx.ConnectTimeout), _translated(httpx.ConnectError):
        return HttpConnection(await on_asyncio(await anyio.connect_tcp(*origin)))


def _is_readable(socket: Any) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([socket], [], [], 0)[0])
    poll = select.poll()
    poll.register(socket, select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def in_time(seconds: float | None, late: type[httpx.TimeoutException]) -> Iterator[None]:
    """Limit the time that a block takes.

    Args:
        seconds: the time; None means no limit.
        late: the error to raise when the time is over.
    """
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
