"""An answer leaves in one piece: uvicorn writes its head and its body apart, and each write is a system call
that wakes the client.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

_LEAVE_SECONDS = 1.0


class CoalescingTransport(asyncio.Transport):
    """A connection whose writes go out two by two; one that stays alone goes out in the loop's next round.

    It has what uvicorn's HTTP protocol asks of a transport, and no more.
    """

    __slots__ = ("_held", "_is_leaving", "_is_unread", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: Any = b""
        self._is_unread = False
        self._is_leaving = False

    def write(self, data: Any) -> None:
        """Send it with what is held, or hold it until the next one."""
        if self._held:
            held, self._held = self._held, b""
            self._transport.writelines((held, data))
        else:
            self._held = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Send what is held, and close.

        With data unread a socket is reset, and the client may lose the answer; so it is given a moment.
        """
        self._flush()
        if self._is_unread and not self._transport.is_closing():
            self._is_unread, self._is_leaving = False, True
            self._loop.call_later(_LEAVE_SECONDS, self._transport.close)
            with suppress(OSError):  # it has gone already
                self._transport.write_eof()
        elif not self._is_leaving:
            self._transport.close()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._is_leaving or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the socket."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Let what the client sends wait."""
        self._is_unread = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, unless that is over."""
        if not self._is_leaving:
            self._is_unread = False
            self._transport.resume_reading()

    def _flush(self) -> None:
        held, self._held = self._held, b""
        if held and not self._transport.is_closing():
            self._transport.write(held)
