"""Write a turn's messages as JSON lines to a file that its command reads (difference 32)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from cgworker.durable.messages import Message, message_of
from cgworker.errors import CommonGroundError, KernelLacks
from cgworker.events import logger
from cgworker.private import write_private
from cgworker.turn import Turn
from cgworker.wire.converter import dumps
from cgworker.wire.records import MESSAGE_ROLE

_FIRST_POLL_SECONDS = 1.0

# Without O_NONBLOCK, a FIFO that the command made in place of the file would block the worker.
_APPENDING = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class MessagesFile:
    """Writes the turn's messages to a file: those so far at once, later ones as they come.

    Args:
        path: the file.
        turn: the turn.
    """

    def __init__(self, path: Path | str, turn: Turn) -> None:
        self._path = str(path)
        self._turn = turn
        self._last_seq = 0

    async def write_first(self) -> None:
        """Write the messages that came with the claim; the file is made even if there are none."""
        lines = b""
        for item in await self._turn.records(MESSAGE_ROLE):
            if (message := message_of(item)) is not None:
                lines += self._line(message)
        write_private(self._path, lines)

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Append the messages that arrive while the block runs.

        The first request is sent after a second, so that a shorter command costs none.
        """
        async with anyio.create_task_group() as background:
            background.start_soon(self._follow)
            yield
            background.cancel_scope.cancel()

    async def _follow(self) -> None:
        await anyio.sleep(_FIRST_POLL_SECONDS)
        try:
            async for message in self._turn.messages():
                if message.turn_seq > self._last_seq:
                    self._append(self._line(message))
        except KernelLacks as lacking:
            logger.debug("%s: its command is told nothing: %s", self._turn.ref, lacking)
        except (CommonGroundError, OSError) as over:  # the lease is lost, or its folder is gone or full
            logger.warning("%s: its command is told no more: %s", self._turn.ref, over)

    def _line(self, message: Message) -> bytes:
        self._last_seq = message.turn_seq
        fields = {"from": message.sender, "message": message.content, "key": message.key}
        return dumps(fields) + b"\n"

    def _append(self, line: bytes) -> None:
        """Append a line to the file, unless the command has put something else in its place."""
        with os.fdopen(os.open(self._path, _APPENDING), "ab") as file:
            file.write(line)
