"""Parse an answer of HTTP/1.1 with httptools, piece by piece."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import anyio
import httptools
import httpx
from attrs import define, field, frozen


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

    async def read_more(self, receive: Callable[[], Awaitable[bytes]]) -> None:
        """Wait for the next bytes of the answer and parse them.

        Args:
            receive: returns what comes next on the connection.

        Raises:
            httpx.RemoteProtocolError: the server closed the connection too early, or does not speak HTTP.
        """
        try:
            self._parser.feed_data(await receive())
        except anyio.EndOfStream:
            self._end()
        except httptools.HttpParserError as broken:
            self.can_go_on = False
            if not self.is_whole:
                raise httpx.RemoteProtocolError(f"the answer is not HTTP: {broken}") from broken
        if self.is_whole:
            del self._parser  # it refers back to this answer, and would leave both to the garbage collector

    def _end(self) -> None:
        """Handle the end of the stream, which ends an answer that has neither a length nor chunks."""
        names = {name.lower() for name, _ in self.headers}
        if not self._has_head or names & {b"content-length", b"transfer-encoding"}:
            raise httpx.RemoteProtocolError("the server hung up before its answer was whole")
        self.is_whole = True

    def on_message_begin(self) -> None:
        """Stop at what was not asked for."""
        if self.is_whole:
            raise httptools.HttpParserError("a second answer")

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
