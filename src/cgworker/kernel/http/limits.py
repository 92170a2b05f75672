"""How a request may begin: its head has a greatest size and a longest time, which uvicorn leaves open, and
what has been read of all requests and not been taken over by anybody has an end.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from cgworker.kernel.http.bodies import BODY_RECEIVED, BODY_TAKEN, MAX_UNAUTHENTICATED_BYTES
from cgworker.kernel.http.coalescing import CoalescingTransport

MAX_HEAD_BYTES = 64 * 1024
"""How long the target and the headers of a request may be together."""

HEAD_SECONDS = 30.0
"""How long a client may take to send them, from its connection or its first byte on."""

MAX_PENDING_BYTES = 24 * 2**20
"""How much may have been read of all requests that no route has taken over: heads, and parts of bodies."""

_UNCOUNTED = 4096  # bytes: most requests are smaller, and are not worth counting
_REFUSAL = b"HTTP/1.1 %d %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_REFUSAL_FOR_NOW = _REFUSAL.replace(b"\r\n\r\n", b"\r\nretry-after: 1\r\n\r\n")


class _HeadTooLong(Exception):
    """Ends the parsing; uvicorn then calls `send_400_response`."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """HTTP as uvicorn speaks it, but a head that is too long (431) or too slow (408) is refused.

    Without it a client could fill the memory with a header that never ends, or keep connections with
    heads that come byte by byte. A large body waits in its socket until a route asks for it, and the
    connection ends with the answer if none does.
    """

    pending_bytes: int = 0
    """Of all connections of the process."""

    _head_bytes = 0  # that came while the head had not ended
    _head_part_bytes = 0  # of a head that has not ended, about
    _headers_bytes = 0  # of headers that have ended
    _head_timer: asyncio.TimerHandle | None = None
    _is_in_head = False
    _pending_bytes = 0  # of this connection
    _large: RequestResponseCycle | None = None  # the request whose body is large, until it is here
    url = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected; its first head is due."""
        super().connection_made(CoalescingTransport(transport, self.loop))
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went away, or was sent away."""
        self._head_came()
        self._count_pending(0)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Part of a request; counted, since the parser keeps a header that has not ended to itself."""
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
        """A head begins."""
        super().on_message_begin()
        self._is_in_head, self._head_bytes, self._headers_bytes = True, 0, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has ended; those of a head that came in one piece are counted here."""
        super().on_header(name, value)
        self._headers_bytes += len(name) + len(value)
        if len(self.url) + self._headers_bytes > MAX_HEAD_BYTES:
            raise _HeadTooLong

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._head_came()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is complete."""
        super().on_message_complete()
        if self._large is not None:
            self._large.keep_alive, self._large = self.parser.should_keep_alive(), None
        self.scope[BODY_RECEIVED] = True  # type: ignore[literal-required]

    def on_response_complete(self) -> None:
        """A request has been answered; what came of its body is of no use now."""
        if self._large is not None:
            self._large.body.clear()
        self._count_pending(0)
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """The parser gave up; over the length of the head, if that is what it had come to."""
        if self._headers_bytes > MAX_HEAD_BYTES - len(self.url):
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        else:
            super().send_400_response(msg)

    def _watch_pending(self, cycle: RequestResponseCycle | None) -> None:
        """Count what is still to be taken over, and let the rest of a large body wait."""
        body_bytes = 0 if cycle is None or cycle.response_complete else len(cycle.body)
        self._count_pending(body_bytes + self._head_part_bytes)
        if self.pending_bytes > MAX_PENDING_BYTES and self._pending_bytes:
            self._count_pending(0)
            self.transport.write(_REFUSAL_FOR_NOW % (503, b"Service Unavailable"))
            self.transport.close()
        elif cycle is not None and cycle.more_body and BODY_TAKEN not in cycle.scope:
            cycle.scope[BODY_TAKEN] = self._body_taken  # type: ignore[literal-required]
            if _may_be_large(self.headers):
                self._large, cycle.keep_alive = cycle, False
                self.flow.pause_reading()

    def _body_taken(self) -> None:
        self._count_pending(0)

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
    """Whether a body is larger than strangers may send, or does not say how large it is."""
    length = dict(headers).get(b"content-length", b"")
    return not length.isdigit() or int(length) > MAX_UNAUTHENTICATED_BYTES
