"""What `CommandCheck` sees of a command during one turn."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from attrs import frozen

from cgworker.handlers import BaseCommandHandler, CommandExit, CommandHandler, ResidentCommandHandler
from cgworker.handlers.environment import ChildEnvironment
from cgworker.handlers.folder import checkpoint_of
from cgworker.outcome import Failed, Outcome
from cgworker.testing.played import Played
from cgworker.turn import Turn

_BROKEN_CONTRACT = {
    "worker_final_invalid",
    "worker_suspend_invalid",
    "worker_command_missing_final",
    "worker_answer_invalid",
}


_TAIL_LINES = 12
_TAIL_CHARACTERS = 400


@frozen(kw_only=True)
class Trial:
    """The command's run on one turn.

    Attributes:
        played: the turn.
        exit_code: the command's exit status; None if a resident command stayed.
        checkpoint: the checkpoint that it left; None without one.
        output_bytes: how much it printed.
        tail: the last lines that it printed, on stdout and stderr.
        left_others: whether it left processes in its group.
        survivors: the ids of processes that left its group and outlived the turn.
    """

    played: Played
    exit_code: int | None
    checkpoint: bytes | None
    output_bytes: int
    tail: tuple[str, ...]
    left_others: bool
    survivors: tuple[int, ...]

    @property
    def outcome(self) -> Outcome | None:
        """The outcome of the turn."""
        return self.played.outcome

    @property
    def error(self) -> Any:
        """The `error` of the command's report, if it failed."""
        return self.outcome.payload.get("error") if isinstance(self.outcome, Failed) else None

    @property
    def was_killed(self) -> bool:
        """True if the command had to be killed."""
        return self.exit_code == -9

    @property
    def problem(self) -> str | None:
        """The general rule of the contract that the command broke; None if it broke none."""
        if self.error == "deadline_exceeded":
            return "it took too long"
        if self.error in _BROKEN_CONTRACT:
            message = self.played.payload.get("message", f"exit status {self.exit_code}")
            return f"{self.error}: {message}"
        if self.exit_code is not None and self.exit_code < 0 and self.played.interruption is None:
            return f"it was ended by signal {-self.exit_code}"
        return None


class Watch:
    """Observes a command during one turn."""

    def __init__(self) -> None:
        self._mark = uuid.uuid4().hex
        self._exit_code: int | None = None
        self._checkpoint: bytes | None = None
        self._output_bytes = 0
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._left_others = False

    def command(self, argv: Sequence[str], *, is_resident: bool) -> BaseCommandHandler:
        """Make the handler that is observed.

        Args:
            argv: the command and its arguments.
            is_resident: whether it gets its turns as lines.
        """
        environment = ChildEnvironment(added={"CG_CHECK_ID": self._mark})
        if is_resident:
            return ResidentCommandHandler(argv, environment=environment, on_line=self._count)
        return CommandHandler(argv, environment=environment, on_line=self._count, on_exit=self._note)

    def seen(self, played: Played) -> Trial:
        """Return what was seen, after the turn.

        Args:
            played: the turn.
        """
        return Trial(
            played=played,
            exit_code=self._exit_code_of(played),
            checkpoint=self._checkpoint,
            output_bytes=self._output_bytes,
            tail=tuple(self._tail),
            left_others=self._left_others,
            survivors=_processes_with(self._mark),
        )

    def _exit_code_of(self, played: Played) -> int | None:
        """Return how the command ended; of a resident one only a report tells."""
        if self._exit_code is None and isinstance(played.outcome, Failed):
            return cast("int | None", played.payload.get("child_exit_code"))
        return self._exit_code

    def _count(self, line: str) -> None:
        self._output_bytes += len(line.encode()) + 1
        self._tail.append(line[:_TAIL_CHARACTERS])

    def _note(self, _turn: Turn, command: CommandExit) -> None:
        self._exit_code = command.exit_code
        self._left_others = command.left_others

    def see_checkpoint(self, turn: Turn) -> None:
        """Read the checkpoint that the command has left.

        Args:
            turn: the turn.
        """
        path = checkpoint_of(turn)
        self._checkpoint = path.read_bytes() if path.exists() else None


def _processes_with(mark: str) -> tuple[int, ...]:
    """Return the ids of running processes with this text in their environment, where the system shows it."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in environment.read_bytes():
                found.append(int(environment.parent.name))
        except OSError:  # the process is another user's, or has ended meanwhile
            continue
    return tuple(found)
