"""The client's side of a session: take the agent's updates, permission requests and file access."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio.to_thread
from acp import ReadTextFileResponse, RequestError, RequestPermissionResponse
from acp.schema import AllowedOutcome, DeniedOutcome, PermissionOption, ToolCallUpdate
from attrs import field, frozen

from cgworker.lease import Reason
from cgworker.turn import Turn


@frozen(eq=False)
class PermissionRequest:
    """A request for permission that waits for its answer.

    Attributes:
        tool_call: what the agent is about to do.
        options: the possible answers.
        answer: becomes the id of an option, or None for a refusal because the turn ends.
    """

    tool_call: ToolCallUpdate
    options: list[PermissionOption]
    answer: asyncio.Future[str | None] = field(factory=lambda: asyncio.get_running_loop().create_future())


class AcpClient:
    """The client of a session. The package `acp` calls its methods, which have the protocol's names.

    Args:
        turn: the turn of the session.
        folder: the only folder that the agent may read and write.

    Attributes:
        updates: the updates and requests, in order; None follows once the agent has answered the prompt.
        is_open: True if updates count; an agent that loads a session first repeats its whole history.
    """

    def __init__(self, turn: Turn, folder: Path) -> None:
        self._turn = turn
        self._folder = folder
        self._waiting: set[asyncio.Future[str | None]] = set()
        self.updates: asyncio.Queue[Any] = asyncio.Queue()
        self.is_open: bool = False

    def end_waiting(self) -> None:
        """Refuse the requests for permission that are still open, because the turn ends."""
        for answer in self._waiting:
            if not answer.done():
                answer.set_result(None)

    # ------------------------------------------------------------ methods of the protocol

    async def session_update(self, session_id: str, update: Any, **_meta: Any) -> None:  # noqa: ARG002
        """Queue an update of the agent.

        Args:
            session_id: the session; there is only one.
            update: the update.
            _meta: ignored.
        """
        if self.is_open:
            self.updates.put_nowait(update)

    async def request_permission(
        self,
        session_id: str,  # noqa: ARG002
        tool_call: ToolCallUpdate,
        options: list[PermissionOption],
        **_meta: Any,
    ) -> RequestPermissionResponse:
        """Queue a request for permission, and wait for the answer of a rule or of people.

        Args:
            session_id: the session; there is only one.
            tool_call: what the agent is about to do.
            options: the possible answers.
            _meta: ignored.
        """
        asked = PermissionRequest(tool_call, options)
        self._waiting.add(asked.answer)
        self.updates.put_nowait(asked)
        try:
            chosen = await asked.answer
        finally:
            self._waiting.discard(asked.answer)
        if chosen is None:
            return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))
        return RequestPermissionResponse(outcome=AllowedOutcome(outcome="selected", option_id=chosen))

    async def read_text_file(
        self,
        session_id: str,  # noqa: ARG002
        path: str,
        line: int | None = None,
        limit: int | None = None,
        **_meta: Any,
    ) -> ReadTextFileResponse:
        """Read a file of the folder, or some of its lines.

        Args:
            session_id: the session; there is only one.
            path: the file.
            line: the first line to read, counted from 1.
            limit: the most lines to read; None reads to the end.
            _meta: ignored.

        Raises:
            RequestError: the file is not in the folder, or cannot be read as text.
        """
        place = self._place(path)
        try:
            content = await anyio.to_thread.run_sync(_read, place)
        except (OSError, UnicodeDecodeError) as unreadable:
            raise RequestError(-32002, f"{path} cannot be read: {unreadable}") from unreadable
        first = max((line or 1) - 1, 0)
        if first or limit is not None:
            lines = content.splitlines(keepends=True)
            content = "".join(lines[first : None if limit is None else first + limit])
        return ReadTextFileResponse(content=content)

    async def write_text_file(self, session_id: str, path: str, content: str, **_meta: Any) -> None:  # noqa: ARG002
        """Write a file of the folder, and create the folders above it.

        Args:
            session_id: the session; there is only one.
            path: the file.
            content: its new content.
            _meta: ignored.

        Raises:
            RequestError: the file is not in the folder or cannot be written, or the lease is lost.
        """
        place = self._place(path)
        interruption = self._turn.interruption
        if interruption is not None and interruption.reason is Reason.LEASE_LOST:
            raise RequestError(-32603, "the turn's lease is lost: nothing is written any more")
        try:
            await anyio.to_thread.run_sync(_write, place, content)
        except OSError as unwritable:
            raise RequestError(-32603, f"{path} cannot be written: {unwritable}") from unwritable

    def _place(self, path: str) -> Path:
        """Return the file, with links resolved, if it is in the folder."""
        place = (self._folder / path).resolve()
        if not place.is_relative_to(self._folder):
            raise RequestError(-32602, f"{path} is not in {self._folder}, where this agent works")
        return place


def _read(place: Path) -> str:
    return place.read_bytes().decode()


def _write(place: Path, content: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content.encode())
