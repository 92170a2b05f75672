"""`AsyncioStream`: a TCP connection on asyncio, for one exchange after the other.

The stream of anyio gives way to other tasks at each call, and stops to read between two calls. For a request
of some hundred bytes that costs more than all the rest. This one reads on: an answer is in memory as a whole
in any case.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, cast

import anyio
import anyio.lowlevel
import sniffio
from anyio.abc import ByteStream, SocketAttribute, SocketStream

_MAX_UNREAD_BYTES = 2**20  # of what nobody waits for


async def on_asyncio(stream: SocketStream) -> ByteStream:
    """Return a stream that goes on with a new connection, which has carried nothing yet.

    Args:
        stream: the connection; elsewhere than on asyncio it is returned as it is.

    Raises:
        OSError: there are no more files.
    """
    if sniffio.current_async_library() != "asyncio" or sys.platform == "win32":
        return stream
    raw = stream.extra(SocketAttribute.raw_socket)
    own = socket.socket(fileno=os.dup(raw.fileno()))
    own.setblocking(False)
    try:
        await anyio.aclose_forcefully(stream)
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(AsyncioStream, sock=own)
    except BaseException:
        own.close()
        raise
    return made


class AsyncioStream(asyncio.Protocol, ByteStream):
    """A connection, as anyio has it; one task sends and one receives at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._unread: deque[bytes] = deque()
        self._unread_bytes = 0
        self._is_reading_paused = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None  # there is one while too much is unsent
        self._has_ended = False
        self._error: Exception | None = None

    # ------------------------------------------------------------ what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Keep what has come, and wake who waits for it."""
        self._unread.append(data)
        self._unread_bytes += len(data)
        if self._unread_bytes > _MAX_UNREAD_BYTES:
            self._is_reading_paused = True
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:
        """Note that nothing more will come; what is sent may still arrive."""
        self._has_ended = True
        _wake(self._reader)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone, and why."""
        self._has_ended = True
        self._error = exc
        _wake(self._reader)
        self.resume_writing()

    def pause_writing(self) -> None:
        """Note that too much is unsent."""
        self._writer = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let who sends go on."""
        _wake(self._writer)
        self._writer = None

    # ------------------------------------------------------------ what the client calls

    async def send(self, item: bytes) -> None:
        """Send bytes; wait only while too much is unsent.

        Args:
            item: the bytes.

        Raises:
            anyio.BrokenResourceError: the connection is gone.
        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self._transport.is_closing():
            raise anyio.BrokenResourceError from self._error
        self._transport.write(item)
        if self._writer is not None:
            await self._writer
            if self._transport.is_closing():
                raise anyio.BrokenResourceError from self._error

    async def receive(self, _max_bytes: int = 65536) -> bytes:
        """Wait for bytes, and return them as they came.

        Args:
            _max_bytes: not looked at: the event loop reads 256 KiB at most.

        Raises:
            anyio.EndOfStream: nothing more will come.
            anyio.BrokenResourceError: the connection is gone.
        """
        return await self.receive_in_time(None)

    async def receive_in_time(self, seconds: float | None) -> bytes:
        """Wait for bytes as `receive` does, but only so long.

        Args:
            seconds: how long; None waits as long as it takes.

        Raises:
            TimeoutError: nothing came in time.
            anyio.EndOfStream: nothing more will come.
            anyio.BrokenResourceError: the connection is gone.
        """
        if not self._unread and not self._has_ended:
            reader = self._reader = self._loop.create_future()
            timer = None if seconds is None else self._loop.call_later(seconds, _be_late, reader)
            try:
                await reader
            finally:
                self._reader = None
                if timer is not None:
                    timer.cancel()
        if not self._unread:
            raise anyio.EndOfStream if self._error is None else anyio.BrokenResourceError from self._error
        data = self._unread.popleft()
        self._unread_bytes -= len(data)
        if self._is_reading_paused and not self._unread:
            self._is_reading_paused = False
            self._transport.resume_reading()
        return data

    async def send_eof(self) -> None:
        """Say that nothing more will be sent."""
        self._transport.write_eof()

    async def aclose(self) -> None:
        """Close the connection; what is unsent is lost."""
        self._transport.abort()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come that was not received, and the connection is open."""
        return not self._unread and not self._has_ended and not self._transport.is_closing()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The socket."""
        return {SocketAttribute.raw_socket: lambda: self._transport.get_extra_info("socket")}


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


def _be_late(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_exception(TimeoutError())
