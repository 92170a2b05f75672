"""HTTP/1.1 over one plain socket: write a request, parse the answer with httptools."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import anyio
import httptools
import httpx
from anyio.abc import ByteReceiveStream, SocketAttribute, SocketStream
from attrs import define, field, frozen

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


@frozen
class PlainResponse:
    """What a kernel answered, for which no `httpx.Response` is made; the attributes are as there."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode(errors="replace")


@define(eq=False)
class HttpConnection:
    """A connection to one origin; it carries one exchange at a time."""

    stream: SocketStream
    idle_since: float = 0.0
    _socket: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._socket = self.stream.extra(SocketAttribute.raw_socket)

    @property
    def is_usable(self) -> bool:
        """True if the connection is still open: an idle one has nothing to read unless it was closed."""
        return time.monotonic() - self.idle_since < _IDLE_SECONDS and not _is_readable(self._socket)

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
            with in_time(timeouts.get("read"), httpx.ReadTimeout):  # one limit, as it is sent at once
                await self._send(request)
                await self._read_more(answer)
        else:
            await self._send_and_listen(request, answer, timeouts)
        while not answer.is_whole:
            with in_time(timeouts.get("read"), httpx.ReadTimeout):
                await self._read_more(answer)
        return answer

    async def _send(self, request: bytes) -> None:
        with _translated(httpx.WriteError):
            await self.stream.send(request)

    async def _read_more(self, answer: ResponseParser) -> None:
        with _translated(httpx.ReadError):
            await answer.read_more(self.stream)

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
            await answer.read_more(self.stream)
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
        return HttpConnection(await anyio.connect_tcp(*origin))


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


@define(eq=False)
class ResponseParser:
    """An answer while it is read; httptools calls the methods named `on_...`."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(factory=list)
    _chunks: list[bytes] = field(factory=list)
    is_whole: bool = False
    can_go_on: bool = False
    is_early: bool = False  # the answer began before the whole request was sent
    _has_head: bool = False
    _parser: httptools.HttpResponseParser = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)

    @property
    def body(self) -> bytes:
        """What has come of the body."""
        return b"".join(self._chunks)

    def response(self) -> httpx.Response | PlainResponse:
        """Return what was answered; httpx decodes what is not sent as it is."""
        headers: dict[str, str] = {}
        for raw_name, value in self.headers:
            name = raw_name.decode("latin-1").lower()
            text = value.decode("latin-1")
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
        if "content-encoding" in headers:
            return self.httpx_response()
        return PlainResponse(self.status, headers, self.body)

    def httpx_response(self) -> httpx.Response:
        """Return what was answered as httpx has it."""
        return httpx.Response(self.status, headers=self.headers, content=self.body)

    async def read_more(self, stream: ByteReceiveStream) -> None:
        """Wait for the next bytes of the answer and parse them.

        Args:
            stream: the connection.

        Raises:
            httpx.RemoteProtocolError: the server closed the connection too early, or does not speak HTTP.
        """
        try:
            self._parser.feed_data(await stream.receive(_MAX_BYTES_A_READ))
        except anyio.EndOfStream:
            self._end()
        except httptools.HttpParserError as broken:
            raise httpx.RemoteProtocolError(f"the answer is not HTTP: {broken}") from broken
        if self.is_whole:
            del self._parser  # it refers back to this answer, and would leave both to the garbage collector

    def _end(self) -> None:
        """Handle the end of the stream, which ends an answer that has neither a length nor chunks."""
        names = {name.lower() for name, _ in self.headers}
        if not self._has_head or names & {b"content-length", b"transfer-encoding"}:
            raise httpx.RemoteProtocolError("the server hung up before its answer was whole")
        self.is_whole = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header.

        Args:
            name: the header's name, as sent.
            value: the header's value.
        """
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note the status."""
        self.status = self._parser.get_status_code()
        self._has_head = True

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body.

        Args:
            data: the piece.
        """
        self._chunks.append(data)

    def on_message_complete(self) -> None:
        """Note the end of the answer, unless it was an interim one (status 1xx)."""
        if self.status < 200:  # such as "100 Continue": the answer is still to come
            self.headers.clear()
            self._has_head = False
            return
        self.is_whole = True
        self.can_go_on = self._parser.should_keep_alive()
