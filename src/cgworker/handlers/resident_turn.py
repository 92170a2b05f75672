"""One turn of a resident command: the line that gives it, and the lines that answer it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from cgworker.handlers.base_command import BaseCommandHandler
from cgworker.handlers.decision import (
    HAND_BACK_STATUS,
    RETRY_SECONDS,
    FinalTooLarge,
    reason_and_note,
    retry_seconds,
)
from cgworker.handlers.environment import mask_for
from cgworker.handlers.files import FileUnusable, read_json
from cgworker.handlers.folder import place_of_checkpoint, write_stop_file
from cgworker.handlers.messages import MessagesFile
from cgworker.handlers.progress import MAX_LINE_BYTES, ProgressRecorder
from cgworker.lease import Interruption, Reason
from cgworker.outcome import Failed, Outcome, Succeeded, retry, suspend
from cgworker.private import write_private
from cgworker.turn import Turn
from cgworker.wire.converter import dumps, loads
from cgworker.wire.records import MESSAGE_ROLE, TurnContext

_MAX_INLINE_BYTES = 1024 * 1024
_MAX_STALE_LINES = 100
_KINDS = ("progress", "final", "final_file", "suspend", "hand_back", "failure")


class BadLine(Exception):
    """A resident command wrote a line that is no answer to the turn that it has; the message says why."""


class ResidentTurn:
    """A turn while a resident command has it.

    Args:
        number: its number; the command repeats it in each line.
        turn: the turn.
        handler: the settings of the command.

    Attributes:
        turn: the turn.
        mask: hides the turn's secrets in a text.
        done: set once the outcome, or the error, is there.
        news: set with `done`, and sooner if the turn is interrupted.
        outcome: the outcome; None before.
        error: why there is no outcome; raised by the handler.
    """

    def __init__(self, number: int, turn: Turn, handler: BaseCommandHandler) -> None:
        self._number = number
        self._handler = handler
        self._folder: Path | None = None
        self._written_files: list[str] = []
        self._progress = ProgressRecorder(turn)
        self._stale_count = 0
        self.turn = turn
        self.mask: Callable[[str], str] = mask_for(turn.secrets)
        self.done: anyio.Event = anyio.Event()
        self.news: anyio.Event = anyio.Event()
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None

    @property
    def has_stale_lines(self) -> bool:
        """Whether the command wrote lines for an earlier turn."""
        return self._stale_count > 0

    def resolve(self, outcome: Outcome) -> None:
        """Set the outcome, unless there is one already.

        Args:
            outcome: the outcome.
        """
        if not self.done.is_set():
            self.outcome = outcome
            self.done.set()
            self.news.set()

    def fail(self, error: BaseException) -> None:
        """Set the error, unless there is an outcome already.

        Args:
            error: why there is no outcome.
        """
        if not self.done.is_set():
            self.error = error
            self.done.set()
            self.news.set()

    def note_interruption(self, _: Interruption) -> None:
        """Wake whoever waits for news of the turn."""
        self.news.set()

    # ------------------------------------------------------------ to the command

    async def line(self, folder: Path) -> bytes:
        """Make the line that gives the turn; writes files for what does not fit into it.

        Args:
            folder: the process's own folder, for the files.

        Raises:
            OSError: a file cannot be written.
        """
        self._folder = folder
        self.messages: MessagesFile = MessagesFile(self._file("messages", "jsonl"), self.turn)
        turn, handler = self.turn, self._handler
        if await turn.records(MESSAGE_ROLE):
            await self.write_messages()
        after = handler.context_after_turn_seq
        records = tuple([item for item in await turn.records() if item.record.turn_seq > after])
        context = TurnContext(turn=turn.snapshot, semantic_items=records[: handler.context_limit])
        fields = {
            "id": self._number,
            "project_id": turn.ref.project_id,
            "turn_id": turn.ref.turn_id,
            "agent_id": turn.agent.agent_id,
            "stop_file": self._file("stop"),
            "messages_file": self._file("messages", "jsonl"),
            "checkpoint_file": place_of_checkpoint(turn),
        }
        line = dumps({**fields, "input": turn.input, "context": context}) + b"\n"
        if len(line) <= _MAX_INLINE_BYTES:
            return line
        for name, value in (("input", turn.input), ("context", context)):
            path = self._file_to_write(name)
            write_private(path, dumps(value) + b"\n")
            fields[f"{name}_file"] = path
        return dumps(fields) + b"\n"

    async def write_messages(self) -> None:
        """Write the file with the messages that came so far.

        Raises:
            OSError: it cannot be written.
        """
        self._file_to_write("messages", "jsonl")
        await self.messages.write_first()

    def _file_to_write(self, name: str, suffix: str = "json") -> str:
        path = self._file(name, suffix)
        self._written_files.append(path)
        return path

    def _file(self, name: str, suffix: str = "json") -> str:
        assert self._folder is not None  # known once the line is made
        return f"{self._folder}{os.sep}{name}-{self._number}.{suffix}"

    def tell_to_stop(self, interruption: Interruption) -> None:
        """Write the stop file.

        Args:
            interruption: the reason.

        Raises:
            OSError: it cannot be written.
        """
        write_stop_file(Path(self._file_to_write("stop")), interruption)

    def remove_files(self) -> None:
        """Remove the files that were written for the turn."""
        for path in self._written_files:
            with suppress(OSError):  # what cannot be removed goes with the folder
                os.unlink(path)  # noqa: PTH108  # a text

    # ------------------------------------------------------------ from the command

    async def take(self, line: bytes) -> bool:
        """Take a line of the command, and return whether it ended the turn.

        Args:
            line: the line, without its end.

        Raises:
            BadLine: the line is no answer to this turn.
        """
        try:
            said = loads(self.mask(line.decode()))
        except (ValueError, RecursionError) as broken:
            raise BadLine(f"a line is not JSON: {broken}") from broken
        if not isinstance(said, dict) or type(number := said.get("id")) is not int:
            raise BadLine('a line is no object with the "id" of the turn')
        if number != self._number:
            await self._leave_out(number)
            return False
        kinds = [kind for kind in _KINDS if kind in said]
        if len(kinds) != 1:
            raise BadLine(f"a line has one of {', '.join(_KINDS)}, not {' and '.join(kinds) or 'none'}")
        if kinds[0] == "progress":
            await self._record(said["progress"], len(line))
            return False
        self.resolve(await self._outcome(kinds[0], said[kinds[0]], len(line)))
        return True

    async def _leave_out(self, number: int) -> None:
        """Leave out a line for an earlier turn: it must not harm this one."""
        self._stale_count += 1
        if number > self._number or number < 1 or self._stale_count > _MAX_STALE_LINES:
            raise BadLine(f"a line has the id {number}, and the turn has the id {self._number}")
        await anyio.lowlevel.checkpoint()

    async def _record(self, payload: Any, line_bytes: int) -> None:
        interruption = self.turn.interruption
        if interruption is not None and interruption.reason is Reason.LEASE_LOST:
            self._progress.is_over = True
        if line_bytes > MAX_LINE_BYTES:
            self._progress.complain("a line is too long")
        elif not self._progress.is_over:
            await self._progress.append(payload)
            return
        await anyio.lowlevel.checkpoint()  # a flood of lines must not block the event loop

    async def _outcome(self, kind: str, value: Any, line_bytes: int) -> Outcome:
        try:
            match kind:
                case "final":
                    return self._final(value, line_bytes)
                case "final_file":
                    return await self._final_file(value)
                case "suspend":
                    return suspend(*reason_and_note(value))
                case "hand_back":
                    return retry(retry_seconds(value))
        except FileUnusable as unusable:
            error = "worker_final_invalid" if kind == "final_file" else "worker_suspend_invalid"
            return failure(error, (), message=str(unusable))
        known = {"error": "worker_command_failed"}
        return Failed({**known, **value} if isinstance(value, Mapping) else {**known, "details": value})

    def _final(self, payload: Any, line_bytes: int) -> Outcome:
        most = self._handler.max_payload_bytes
        if line_bytes > most and (size := len(dumps(payload))) > most:
            return too_large(f"the final payload has {size} bytes, at most {most} are allowed")
        return Succeeded(payload, self._handler.final_record_role)

    async def _final_file(self, said: Any) -> Outcome:
        if not isinstance(said, str):
            raise FileUnusable("final_file must be a path")
        path = (self._handler.cwd or Path()) / said
        try:
            size = path.lstat().st_size
            if size > self._handler.max_payload_bytes:
                larger = FinalTooLarge(path, size, self._handler.max_payload_bytes)
                await self._handler.keep(larger, self.turn)
                return too_large(str(larger))
            payload = read_json(path, self._handler.max_payload_bytes, self.mask)
        except (OSError, ValueError) as missing:  # ValueError: a NUL, or half a character, in the path
            raise FileUnusable(f"final_file cannot be read: {missing}") from missing
        return Succeeded(payload, self._handler.final_record_role)


def too_large(message: str) -> Failed:
    """Return the failure of a turn whose result is larger than the kernel takes.

    Args:
        message: how large it is.
    """
    return Failed({"error": "result_too_large", "message": message})


def failure(error: str, tail: tuple[str, ...], **facts: Any) -> Failed:
    """Return the failure of a turn, with an error report as that of a plain command.

    Args:
        error: the error's name.
        tail: the last lines of the command's stderr.
        facts: more fields of the report.
    """
    return Failed({"error": error, **facts, **({"stderr_tail": list(tail)} if tail else {})})


def outcome_of_exit(exit_code: int, tail: tuple[str, ...]) -> Outcome:
    """Return the outcome of a turn that a command has not answered before its end.

    Args:
        exit_code: its exit status, negative for a signal.
        tail: the last lines of its stderr.
    """
    if exit_code == HAND_BACK_STATUS:
        return retry(RETRY_SECONDS)
    error = "worker_command_failed" if exit_code else "worker_command_missing_final"
    return failure(error, tail, child_exit_code=exit_code)
