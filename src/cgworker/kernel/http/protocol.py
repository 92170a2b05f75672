"""The server's side of a connection: uvicorn's HTTP protocol with limits, and one write for a response.

A head has a maximum size and a maximum time to arrive; uvicorn has neither. The bytes of all requests that
have been read, but not yet taken over by a route, have a maximum too.

uvicorn writes the head and the body of a response separately, and each write is a system call that wakes the
client.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from cgworker.kernel.http.request import BODY_RECEIVED, BODY_TAKEN, MAX_UNAUTHENTICATED_BYTES

MAX_HEAD_BYTES = 64 * 1024
"""How many bytes the target and the headers of a request may have together."""

MAX_TARGET_BYTES = 8 * 1024
"""How many bytes the target may have: 64 KiB of parameters take 60 ms to read."""

MAX_HEADERS = 200
"""How many headers a request may have."""

HEAD_SECONDS = 30.0
"""How many seconds a client may take to send a head, from its connection or its first byte on."""

MAX_PENDING_BYTES = 24 * 2**20
"""How many bytes of heads and bodies may have been read that no route has taken over, of all requests."""

MAX_PIPELINED = 16
"""How many requests of a connection may wait behind the one that is being answered."""

_LEAVE_SECONDS = 1.0
_UNCOUNTED = 4096  # bytes: smaller requests, which most are, are not counted
_REFUSAL = b"HTTP/1.1 %d %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_REFUSAL_FOR_NOW = _REFUSAL.replace(b"\r\n\r\n", b"\r\nretry-after: 1\r\n\r\n")


class _HeadTooLong(Exception):
    """Stops the parser; uvicorn then calls `send_400_response`."""


class _TooManyPipelined(Exception):
    """Stops the parser too."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with limits: refuses a head that is too long (431) or too slow (408).

    Without the limits a client could fill the memory with an endless header, or hold connections with heads
    that arrive byte by byte. A large body waits in its socket until a route reads it. If no route does, the
    connection is closed after the response. So is one with more than `MAX_PIPELINED` requests waiting: a read
    of 256 KiB has room for fifteen thousand.
    """

    pending_bytes: int = 0
    """The bytes of all connections of the process that no route has taken over."""

    _head_bytes = 0  # received while the head was incomplete
    _head_part_bytes = 0  # of an incomplete head, approximately
    _headers_bytes = 0  # of complete headers
    _head_timer: asyncio.TimerHandle | None = None
    _is_full = False  # no more requests are taken
    _is_in_head = False
    _pending_bytes = 0  # of this connection
    _large: RequestResponseCycle | None = None  # the request whose large body has not arrived yet
    url = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Handle a new connection: start the timeout of its first head."""
        super().connection_made(CoalescingTransport(transport, self.loop))
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the connection."""
        self._head_came()
        self._count_pending(0)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count and parse data; the parser itself does not report a header that is incomplete."""
        was_in_head = self._is_in_head
        super().data_received(data)
        if self.transport.is_closing():
            return
        if was_in_head and self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        self._head_part_bytes = self._head_bytes or len(data) if self._is_in_head else 0
        self._watch_pending(self.cycle)
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_head()

    def on_message_begin(self) -> None:
        """Handle the start of a head; where too many requests wait, take no more of this connection."""
        if len(self.pipeline) >= MAX_PIPELINED:
            self._is_full, self.cycle.keep_alive = True, False
            self.flow.pause_reading()
            raise _TooManyPipelined
        super().on_message_begin()
        self._is_in_head, self._head_bytes, self._headers_bytes = True, 0, 0

    def on_url(self, url: bytes) -> None:
        """Collect the target, or a part of it."""
        super().on_url(url)
        if len(self.url) > MAX_TARGET_BYTES:
            raise _HeadTooLong

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count and keep a complete header, as uvicorn does; this covers a head that arrives in one piece."""
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))
        self._headers_bytes += len(name) + len(value)
        if len(self.url) + self._headers_bytes > MAX_HEAD_BYTES or len(self.headers) > MAX_HEADERS:
            raise _HeadTooLong

    def on_headers_complete(self) -> None:
        """Handle the end of a head: stop its timeout."""
        self._head_came()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Handle the end of a body."""
        super().on_message_complete()
        if self._large is not None:
            self._large.keep_alive, self._large = self.parser.should_keep_alive(), None
        self.scope[BODY_RECEIVED] = True  # type: ignore[literal-required]

    def on_response_complete(self) -> None:
        """Handle the end of a response: drop the rest of the request's body."""
        if self._large is not None:
            self._large.body.clear()
        if self._pending_bytes:
            self._drop_pending()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that the parser rejects: 414 or 431 if its head is too long, else 400."""
        if self._is_full:  # the requests before it are still answered
            return
        if len(self.url) > MAX_TARGET_BYTES:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG)
        elif self._headers_bytes > MAX_HEAD_BYTES - len(self.url) or len(self.headers or ()) > MAX_HEADERS:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        else:
            super().send_400_response(msg)

    def _watch_pending(self, cycle: RequestResponseCycle | None) -> None:
        """Count the bytes that no route has taken over, and stop reading a large body."""
        if self.pipeline:
            body_bytes = self._pipelined_bytes()  # the cycle is among those
        else:
            body_bytes = 0 if cycle is None or cycle.response_complete else len(cycle.body)
        count = body_bytes + self._head_part_bytes
        if count > _UNCOUNTED or self._pending_bytes:
            self._count_pending(count)
        if self.pending_bytes > MAX_PENDING_BYTES and self._pending_bytes:
            self._count_pending(0)
            self.transport.write(_REFUSAL_FOR_NOW % (503, b"Service Unavailable"))
            self.transport.close()
        elif cycle is not None and cycle.more_body and BODY_TAKEN not in cycle.scope:
            cycle.scope[BODY_TAKEN] = self._drop_pending  # type: ignore[literal-required]
            if _may_be_large(self.headers):
                self._large, cycle.keep_alive = cycle, False
                self.flow.pause_reading()

    def _drop_pending(self) -> None:
        """Count no more what a route has taken over."""
        if self._pending_bytes:
            self._count_pending(self._pipelined_bytes())

    def _pipelined_bytes(self) -> int:
        return sum(len(cycle.body) for cycle, _ in self.pipeline)

    def _count_pending(self, count: int) -> None:
        if count <= _UNCOUNTED:
            count = 0
        if count != self._pending_bytes:
            LimitedHttpProtocol.pending_bytes += count - self._pending_bytes
            self._pending_bytes = count

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._on_slow_head)

    def _head_came(self) -> None:
        self._is_in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_slow_head(self) -> None:
        if self._is_in_head:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        self.transport.close()

    def _refuse(self, status: HTTPStatus) -> None:
        self.transport.write(_REFUSAL % (status, status.phrase.encode()))
        self.transport.close()


def _may_be_large(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a body exceeds what is read without a credential, or its length is unknown."""
    length = dict(headers).get(b"content-length", b"")
    return not length.isdigit() or int(length) > MAX_UNAUTHENTICATED_BYTES


class CoalescingTransport(asyncio.Transport):
    """A transport that sends two writes at once; a single write is sent in the loop's next round.

    It implements only the methods that uvicorn's HTTP protocol uses.

    Args:
        transport: the transport of the connection.
        loop: the event loop of the connection.
    """

    __slots__ = ("_held", "_is_leaving", "_is_unread", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: Any = b""
        self._is_unread = False
        self._is_leaving = False

    def write(self, data: Any) -> None:
        """Send the data with the held write, or hold it until the next write; after `close` drop it."""
        if self._is_leaving or self._transport.is_closing():
            return  # it answers a request that was pipelined behind the last one
        if self._held:
            held, self._held = self._held, b""
            self._transport.writelines((held, data))
        else:
            self._held = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Send the held write and close the connection.

        Closing a socket with unread data resets it, and the client may lose the response. In that case the
        socket lingers for a moment, so that the client can read the response.
        """
        self._flush()
        if self._is_unread and not self._transport.is_closing():
            self._is_unread, self._is_leaving = False, True
            self._loop.call_later(_LEAVE_SECONDS, self._transport.close)
            with suppress(OSError):  # the client has disconnected
                self._transport.write_eof()
        elif not self._is_leaving:
            self._transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is closed or closing."""
        return self._is_leaving or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return information about the socket, as asyncio does."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Stop reading from the client."""
        self._is_unread = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from the client again, unless the connection is closing."""
        if not self._is_leaving:
            self._is_unread = False
            self._transport.resume_reading()

    def _flush(self) -> None:
        held, self._held = self._held, b""
        if held and not self._transport.is_closing():
            self._transport.write(held)
