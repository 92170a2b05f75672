"""The common part of handlers that run a command: its settings, its output, and how it is ended."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread
from attrs import evolve, field, frozen

from cgworker.errors import CommandNotFound, UsageError
from cgworker.events import logger
from cgworker.handlers.child import ChildProcess
from cgworker.handlers.decision import FinalTooLarge
from cgworker.handlers.environment import ChildEnvironment
from cgworker.handlers.files import make_private_folder
from cgworker.handlers.folder import remove_checkpoint
from cgworker.handlers.temporary import temporary_files
from cgworker.lease import Interruption, Reason
from cgworker.outcome import Outcome, Suspended, retry
from cgworker.paths import state_folder
from cgworker.turn import Turn

_HAND_BACK_SECONDS = 5.0
_STOP_FILE_SECONDS = 2.0
_MAX_OUTPUT_BYTES = 4 * 1024 * 1024


def write_to_stderr(line: str) -> None:
    """Write a line of a child's output to stderr; drop it if stderr is closed.

    Args:
        line: the line, without its end.
    """
    with suppress(OSError, ValueError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _words(argv: Iterable[str]) -> tuple[str, ...]:
    return tuple(argv)


@frozen
class BaseCommandHandler:
    """The part of a handler that says which command it runs, and how.

    Args:
        argv: the command and its arguments; no shell interprets them.
        cwd: its working directory; the default is that of this process.
        context_after_turn_seq: leave the records up to this number out of its context; the default is 0.
        context_limit: the most records in its context; the default, None, is all.
        environment: how its environment is made; it never holds secrets of CommonGround.
        final_record_role: the role of the final record; the default is "deliverable".
        max_payload_bytes: a larger result fails the turn with `result_too_large`.
        on_line: receives each line of its output; the default writes it to stderr.
    """

    argv: tuple[str, ...] = field(converter=_words)
    cwd: Path | None = field(default=None, kw_only=True)
    context_after_turn_seq: int = field(default=0, kw_only=True)
    context_limit: int | None = field(default=None, kw_only=True)
    environment: ChildEnvironment = field(factory=ChildEnvironment, kw_only=True)
    final_record_role: str = field(default="deliverable", kw_only=True)
    max_payload_bytes: int = field(default=16 * 1024 * 1024 - 64 * 1024, kw_only=True)
    on_line: Callable[[str], None] = field(default=write_to_stderr, kw_only=True)

    def check(self) -> None:
        """Check that the command can run; the worker does so before it claims (difference 17).

        Raises:
            CommandNotFound: the command does not exist or is not executable.
            UsageError: one of its folders or files cannot be used, or an argument cannot be passed on.
        """
        if self.cwd is not None and not self.cwd.is_dir():
            raise UsageError(f"the working directory {self.cwd} of the command is no folder")
        if any("\0" in word for word in self.argv):
            raise UsageError("a command's argument cannot contain NUL")
        search_path = self.environment.added.get("PATH", os.environ.get("PATH"))
        if not self.argv or not _is_program(self.argv[0], search_path):
            name = self.argv[0] if self.argv else ""
            problem = "not executable" if Path(name).exists() else "No such file or directory"
            raise CommandNotFound(f"cannot run {name!r}: {problem}")

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders it writes to: those of the turns' files and of checkpoints.

        Raises:
            UsageError: this user has no folder for temporary files or for state.
        """
        return (temporary_files(), state_folder("checkpoints"))

    def forget(self, turn: Turn) -> None:
        """Remove the checkpoint of a closed turn.

        Args:
            turn: the turn.
        """
        remove_checkpoint(turn)

    async def __call__(self, turn: Turn) -> Outcome:
        """Run the command on a turn, and return its outcome.

        Args:
            turn: the turn.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how its command runs")

    async def keep(self, too_large: FinalTooLarge, turn: Turn) -> None:
        """Keep a result that the kernel would not take, for a person to find.

        Args:
            too_large: names its file.
            turn: the turn.
        """
        try:
            kept = make_private_folder(state_folder("kept")) / f"{turn.fingerprint}.final.json"
            await anyio.to_thread.run_sync(shutil.move, too_large.path, kept)
            self.on_line(f"{turn.ref}: {too_large}; it was kept at {kept}")
        except OSError as full:
            self.on_line(f"{turn.ref}: {too_large}; it could not be kept: {full}")


_PROGRAMS: dict[tuple[str, str | None], str] = {}
"""Where programs were found, by their name and the search path."""


def _is_program(name: str, search_path: str | None) -> bool:
    """Whether there is such a program; it is searched for only if it is not where it was found before."""
    known = _PROGRAMS.get((name, search_path))
    if known is not None and os.access(known, os.X_OK) and os.path.isfile(known):  # noqa: PTH113  # quicker
        return True
    found = shutil.which(name, path=search_path)
    if found is not None:
        _PROGRAMS[name, search_path] = found
    return found is not None


def hand_back_for_room(turn: Turn, full: OSError) -> Outcome:
    """Hand a turn back because the disk or the process table is full: that is not the turn's fault.

    Args:
        turn: the turn; its `no_room` is set.
        full: the error of the system.
    """
    logger.error("%s: its command cannot be started, it is handed back: %s", turn.ref, full)
    turn.no_room = full
    return evolve(retry(_HAND_BACK_SECONDS), note=f"its command cannot be started: {full}")


def hand_back_after_guard(turn: Turn, child: ChildProcess) -> Suspended | None:
    """Hand a turn back if the guard has ended its command: the worker stood still, the turn did nothing.

    Args:
        turn: the turn.
        child: the command, which has failed.

    Returns:
        None if the failure is the command's own, or the turn is interrupted anyway.
    """
    if not child.ended_by_guard or turn.interruption is not None:
        return None
    reason = "its command was ended because its lease was renewed too late"
    logger.warning("%s: %s; it is handed back", turn.ref, reason)
    return evolve(retry(_HAND_BACK_SECONDS), note=reason)


class Endable(Protocol):
    """A process that can be ended in two steps."""

    def ask_to_end(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Kill it now."""


async def end_in_steps(
    child: Endable, tell_to_stop: Callable[[Interruption], None], turn: Turn, interruption: Interruption
) -> None:
    """Write the stop file, then send SIGTERM, then kill the command, all within the grace.

    Args:
        child: the command's process.
        tell_to_stop: writes the stop file.
        turn: the turn that is interrupted.
        interruption: the reason, and the grace.
    """
    grace = interruption.grace_seconds
    telling = 0 if interruption.reason is Reason.LEASE_LOST else min(_STOP_FILE_SECONDS, grace / 4)
    try:
        tell_to_stop(interruption)
    except OSError as unwritable:  # its folder is gone, or the disk is full
        logger.warning("%s: there is no stop file, only signals: %s", turn.ref, unwritable)
    await anyio.sleep(telling)
    child.ask_to_end()
    await anyio.sleep(max(grace - telling, 0) * 0.75)
    child.kill()


def bounded(on_line: Callable[[str], None]) -> Callable[[str], None]:
    """Limit the output that is passed on. The rest is read and dropped, so that the child never blocks.

    Args:
        on_line: receives the lines up to the limit.
    """
    left = _MAX_OUTPUT_BYTES

    def pass_on(line: str) -> None:
        nonlocal left
        if left <= 0:
            return
        left -= len(line) + 1
        try:
            on_line(line)
            if left <= 0:
                on_line("(further output of this command is not shown)")
        except Exception:  # a failing listener must not end the command
            left = 0
            logger.exception("a command's output could not be passed on, and is left out from here")

    return pass_on
