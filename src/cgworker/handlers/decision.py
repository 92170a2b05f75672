"""Decide the outcome of a command by its exit status and its files (command line 4.3, difference 17)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from cgworker.handlers.files import FileUnusable, read_json
from cgworker.handlers.folder import TurnFolder
from cgworker.outcome import Failed, Outcome, Succeeded, retry, suspend

HAND_BACK_STATUS = 75
"""The exit status (EX_TEMPFAIL) by which a command hands its turn back for another attempt."""

RETRY_SECONDS = 1.0
_MAX_RETRY_SECONDS = 100 * 365 * 86_400.0
_MAX_FAILURE_BYTES = 4 * 1024 * 1024


class FinalTooLarge(Exception):
    """The final file is larger than the kernel takes.

    Args:
        path: the file.
        size: its size in bytes.
        max_bytes: the largest size that is taken.
    """

    def __init__(self, path: Path, size: int, max_bytes: int) -> None:
        super().__init__(f"the final payload has {size} bytes, at most {max_bytes} are allowed")
        self.path = path

    def outcome(self, exit_code: int) -> Outcome:
        """Return the failure of the turn.

        Args:
            exit_code: the command's exit status.
        """
        return Failed({"error": "result_too_large", "child_exit_code": exit_code, "message": str(self)})


@frozen
class CommandResult:
    """How a command ended.

    Attributes:
        exit_code: its exit status, negative for a signal.
        tail: the last lines of its stderr.
        folder: the turn's files.
        mask: hides secrets in the files, whose content becomes public.
        max_payload_bytes: the largest final file that is taken.
        final_record_role: the role of the final record.
    """

    exit_code: int
    tail: Sequence[str]
    folder: TurnFolder
    mask: Callable[[str], str] = field(kw_only=True)
    max_payload_bytes: int = field(kw_only=True)
    final_record_role: str = field(kw_only=True)

    @property
    def is_failure(self) -> bool:
        """Whether its exit status says that it failed."""
        return self.exit_code not in (0, HAND_BACK_STATUS)

    def outcome(self) -> Outcome:
        """Return the outcome, by the first rule that matches (docs/reference/command-contract.md).

        Raises:
            FinalTooLarge: the final file is too large to be sent.
        """
        if self.exit_code == HAND_BACK_STATUS:
            return self._handed_back()
        if self.is_failure:
            return self._failed("worker_command_failed")
        if os.path.lexists(self.folder.suspend):
            return self._suspended()
        if os.path.lexists(self.folder.final):
            return self._succeeded()
        return self._failed("worker_command_missing_final")

    def _handed_back(self) -> Outcome:
        """Return a retry after the seconds of the suspend file, or after one second without that file."""
        if not os.path.lexists(self.folder.suspend):
            return retry(RETRY_SECONDS)
        try:
            return retry(retry_seconds(read_json(self.folder.suspend, self.max_payload_bytes, self.mask)))
        except FileUnusable as unusable:
            return self._failed("worker_suspend_invalid", str(unusable))

    def _suspended(self) -> Outcome:
        try:
            said = read_json(self.folder.suspend, self.max_payload_bytes, self.mask)
            reason, note = reason_and_note(said)
        except FileUnusable as unusable:
            return self._failed("worker_suspend_invalid", str(unusable))
        return suspend(reason, note)

    def _succeeded(self) -> Outcome:
        final = self.folder.final
        size = os.lstat(final).st_size
        if size > self.max_payload_bytes:
            raise FinalTooLarge(Path(final), size, self.max_payload_bytes)
        try:
            return Succeeded(read_json(final, self.max_payload_bytes, self.mask), self.final_record_role)
        except FileUnusable as unusable:
            return self._failed("worker_final_invalid", str(unusable))

    def _failed(self, error: str, message: str | None = None) -> Failed:
        """Make the error report. The failure file overrides its fields, unless there is a `message`."""
        known: dict[str, Any] = {"error": error, "child_exit_code": self.exit_code}
        if self.tail:
            known["stderr_tail"] = list(self.tail)
        if message is not None:
            return Failed({**known, "message": message})
        try:
            said = read_json(self.folder.failure, _MAX_FAILURE_BYTES, self.mask)
        except FileNotFoundError:
            return Failed(known)
        except FileUnusable as unusable:
            return Failed({**known, "message": f"the failure file was not used: {unusable}"})
        return Failed({**known, **said} if isinstance(said, Mapping) else {**known, "details": said})


def retry_seconds(content: Any) -> float:
    """Return how many seconds to wait before the next attempt, by a suspend file or a line.

    Args:
        content: the JSON that the command wrote.

    Raises:
        FileUnusable: it is no object, or the number is not one of seconds.
    """
    if not isinstance(content, dict):
        raise FileUnusable("worker suspend file must contain a JSON object")
    seconds = content.get("retry_after_seconds", RETRY_SECONDS)
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds <= _MAX_RETRY_SECONDS:
        raise FileUnusable(f"retry_after_seconds must be a number from 0 to {_MAX_RETRY_SECONDS:.0f}")
    return float(seconds)


def reason_and_note(content: Any) -> tuple[str, str | None]:
    """Return the reason and the note of a suspension, by a suspend file or a line.

    Args:
        content: the JSON that the command wrote.

    Raises:
        FileUnusable: it is no object, or one of them is no text.
    """
    if not isinstance(content, dict):
        raise FileUnusable("worker suspend file must contain a JSON object")
    reason, note = content.get("reason"), content.get("note")
    if reason is None or reason == "":
        reason = "worker_suspended"
    if not isinstance(reason, str) or not reason.strip():
        raise FileUnusable("worker suspend reason must be a non-empty string")
    if not isinstance(note, str | None):
        raise FileUnusable("worker suspend note must be a string or null")
    return reason.strip(), note
