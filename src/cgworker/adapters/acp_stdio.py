"""Messages over the pipes of an agent's process: one JSON object per line, as in the protocol."""

from __future__ import annotations

import json
from typing import Any

import anyio
import anyio.abc

from cgworker.events import logger
from cgworker.wire.converter import dumps

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class StdioMessages:
    """A transport for the package `acp`.

    Args:
        to_agent: the agent's stdin.
        from_agent: the agent's stdout.
    """

    def __init__(self, to_agent: anyio.abc.ByteSendStream, from_agent: anyio.abc.ByteReceiveStream) -> None:
        self._to_agent = to_agent
        self._from_agent = from_agent
        self._sending = anyio.Lock()
        self._rest = bytearray()

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message.

        Args:
            message: the JSON object.

        Raises:
            ConnectionError: the agent does not read any more.
        """
        async with self._sending:
            try:
                await self._to_agent.send(dumps(message) + b"\n")
            except (anyio.BrokenResourceError, anyio.ClosedResourceError) as gone:
                raise ConnectionError("the agent does not read any more") from gone

    async def receive(self) -> dict[str, Any] | None:
        """Return the next message; None at the end of the agent's output.

        Lines that are not messages are skipped.
        """
        while (line := await self._next_line()) is not None:
            try:
                message = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError):
                logger.warning("skipped a line of an agent's stdout that is not a message")
                continue
            if isinstance(message, dict):
                return message
        return None

    async def close(self) -> None:
        """Close the agent's stdin."""
        await self._to_agent.aclose()

    async def _next_line(self) -> bytes | None:
        looked_at = 0
        while (end := self._rest.find(b"\n", looked_at)) < 0:
            looked_at = len(self._rest)
            if looked_at > _MAX_MESSAGE_BYTES:
                logger.error("skipped a message of an agent that has more than %d bytes", _MAX_MESSAGE_BYTES)
                return None
            try:
                self._rest += await self._from_agent.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return None
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line
