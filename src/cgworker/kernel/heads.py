"""How a request may begin: its head has a greatest size and a longest time, which uvicorn leaves open."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cgworker.kernel.http import BODY_IS_HERE
from cgworker.kernel.joined import JoinedWrites

MOST_HEAD_BYTES = 64 * 1024
"""How long the target and the headers of a request may be together."""

HEAD_SECONDS = 30.0
"""How long a client may take to send them, from its connection or its first byte on."""

_REFUSAL = b"HTTP/1.1 %d %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class _HeadTooLong(Exception):
    """Ends the parsing; uvicorn then calls `send_400_response`."""


class BoundedHeads(HttpToolsProtocol):
    """HTTP as uvicorn speaks it, but a head that is too long (431) or too slow (408) is refused.

    Without it a client could fill the memory with a header that never ends, or keep connections with
    heads that come byte by byte.
    """

    _head_bytes = 0  # that came while the head had not ended
    _headers_bytes = 0  # of headers that have ended
    _head_timer: asyncio.TimerHandle | None = None
    _is_in_head = False
    url = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected; its first head is due."""
        super().connection_made(JoinedWrites(transport, self.loop))
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went away, or was sent away."""
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Part of a request; counted, since the parser keeps a header that has not ended to itself."""
        was_in_head = self._is_in_head
        super().data_received(data)
        if self.transport.is_closing():
            return
        if was_in_head and self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
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
        if len(self.url) + self._headers_bytes > MOST_HEAD_BYTES:
            raise _HeadTooLong

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._head_came()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is complete."""
        super().on_message_complete()
        self.scope[BODY_IS_HERE] = True  # type: ignore[literal-required]

    def send_400_response(self, msg: str) -> None:
        """The parser gave up; over the length of the head, if that is what it had come to."""
        if self._headers_bytes > MOST_HEAD_BYTES - len(self.url):
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        else:
            super().send_400_response(msg)

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
