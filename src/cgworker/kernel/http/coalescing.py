"""Coalesce writes: send the head and the body of a response with one system call.

uvicorn writes them separately, and each write is a system call that wakes the client.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

_LEAVE_SECONDS = 1.0


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
