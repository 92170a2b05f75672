"""Check that a command keeps the command contract: run it on a set of turns and report what happened.

The real `CommandHandler` runs each turn (`playing.py`): the files, the child process, its environment and
its end are those of a worker. The general rules are checked with every command. Optional behaviour, such as
suspending, is checked only if the caller names an input that triggers it.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from attrs import field, frozen

from cgworker.errors import UsageError
from cgworker.handlers import CommandExit, CommandHandler
from cgworker.handlers.environment import ChildEnvironment
from cgworker.handlers.folder import checkpoint_of
from cgworker.outcome import RETRY_REASON, Failed, Outcome, Succeeded, Suspended
from cgworker.testing.played import Played
from cgworker.testing.playing import play
from cgworker.turn import Turn
from cgworker.worker import WorkerOptions

Verdict = Literal["passed", "failed", "not shown"]

DEFAULT_TURNS: Mapping[str, Any] = {"answer": {"task": "Reply with a concise answer."}}
"""The inputs by default; for the other turns there is no input that every command understands."""

TURNS: Mapping[str, str] = {
    "answer": "a normal turn, which succeeds",
    "slow": "a turn that takes longer than a few seconds",
    "suspend": "a turn that the command suspends",
    "fail": "a turn that the command fails, with a failure file",
    "later": "a turn that the command hands back, with exit status 75",
}
"""The names of the turns to check with, and what each of them is."""

_ODD_INPUTS: tuple[Any, ...] = (
    None,
    "",
    "just text",
    7,
    [1, [2]],
    {},
    {"unexpected": {"deeply": ["nested"]}},
)
_BIG_RECORDS = 250
_BIG_INPUT_CHARACTERS = 1024 * 1024
_STOP_AFTER_SECONDS = 1.5
_GRACE_SECONDS = 4.0
_MAX_OUTPUT_BYTES = 4 * 1024 * 1024
_BROKEN_CONTRACT = {"worker_final_invalid", "worker_suspend_invalid", "worker_command_missing_final"}


@frozen
class Check:
    """The result of one check.

    Attributes:
        name: what was checked.
        verdict: "passed", "failed" or "not shown".
        detail: what happened, or which input would show it.
    """

    name: str
    verdict: Verdict
    detail: str


@frozen(kw_only=True)
class _Trial:
    """The command's run on one turn."""

    played: Played
    exit_code: int | None
    checkpoint: bytes | None
    output_bytes: int
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


@frozen
class CommandCheck:
    """The check of one command.

    Args:
        argv: the command and its arguments.
        turns: inputs by the names in `TURNS`; a normal turn is added if there is none.
        seconds: how long a turn may take.

    Raises:
        UsageError: the caller's fault: a turn has another name.
    """

    argv: Sequence[str]
    turns: Mapping[str, Any] = DEFAULT_TURNS
    seconds: float = 60.0
    _trials: list[_Trial] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        if unknown := self.turns.keys() - TURNS.keys():
            known = "; ".join(f"{name}: {what}" for name, what in TURNS.items())
            raise UsageError(f"there is no turn {', '.join(sorted(unknown))} to check with. {known}")

    async def run(self) -> AsyncIterator[Check]:
        """Yield the results of the checks as they become known."""
        yield await self._answers()
        yield await self._takes_any_input()
        yield await self._takes_much()
        stopped = await self._try(self._slow, stop_after=_STOP_AFTER_SECONDS)
        yield _ended("stop", stopped, "neither CG_STOP_FILE nor SIGTERM ended it")
        lost = await self._try(self._slow, lose_lease_after=_STOP_AFTER_SECONDS)
        yield _ended("SIGTERM", lost, "SIGTERM did not end it")
        yield await self._goes_on_from_its_checkpoint()
        for name in ("suspend", "fail", "later"):
            yield await self._decides(name)
        yield self._reports_progress()
        yield self._prints_little()
        yield self._leaves_nothing_behind()

    # ------------------------------------------------------------ rules for every command

    async def _answers(self) -> Check:
        trial = await self._try(self._normal)
        if isinstance(trial.outcome, Succeeded):
            return Check("answer", "passed", "it left whole JSON in CG_FINAL_FILE, and exit status 0")
        return Check("answer", "failed", f"a normal turn came to {_summary(trial)}")

    async def _takes_any_input(self) -> Check:
        for given in _ODD_INPUTS:
            if problem := (await self._try(given)).problem:
                return Check("any input", "failed", f"{given!r}: {problem}")
        return Check(
            "any input", "passed", f"{len(_ODD_INPUTS)} inputs of other shapes were answered or failed"
        )

    async def _takes_much(self) -> Check:
        records = [("progress", {"n": number}) for number in range(_BIG_RECORDS)]
        big = await self._try({"task": "x" * _BIG_INPUT_CHARACTERS})
        many = await self._try(self._normal, records=records)
        if problem := big.problem or many.problem:
            return Check("big context", "failed", problem)
        return Check("big context", "passed", f"an input of 1 MiB, and a context of {_BIG_RECORDS} records")

    def _reports_progress(self) -> Check:
        count = sum(len(trial.played.records) for trial in self._trials)
        if count == 0:
            return Check("progress", "not shown", "no turn made it write to CG_PROGRESS_FILE")
        return Check("progress", "passed", f"{count} lines of CG_PROGRESS_FILE became records")

    def _prints_little(self) -> Check:
        most = max(trial.output_bytes for trial in self._trials)
        if most >= _MAX_OUTPUT_BYTES:
            return Check("output", "failed", "it printed more than 4 MiB on one turn: the rest is not shown")
        return Check("output", "passed", f"{most} bytes at most on one turn")

    def _leaves_nothing_behind(self) -> Check:
        if any(trial.left_others for trial in self._trials if trial.played.interruption is None):
            detail = "processes ran on when it ended, such as by `&`; a worker ends them: wait for them"
            return Check("grandchild", "failed", detail)
        if sys.platform != "linux":
            return Check(
                "grandchild", "not shown", "only on Linux can it be seen what left its process group"
            )
        if survivors := sum(len(trial.survivors) for trial in self._trials):
            return Check(
                "grandchild", "failed", f"{survivors} processes left its group and outlived their turns"
            )
        return Check("grandchild", "passed", "no process outlived its turn")

    # ------------------------------------------------------------ optional behaviour

    async def _goes_on_from_its_checkpoint(self) -> Check:
        kept = [trial.checkpoint for trial in self._trials if trial.checkpoint is not None]
        if not kept:
            return Check("checkpoint", "not shown", "no turn made it write CG_CHECKPOINT_FILE")
        again = await self._try(self._slow, checkpoint=kept[-1], stop_after=_STOP_AFTER_SECONDS)
        if problem := again.problem:
            return Check("checkpoint", "failed", f"with its own checkpoint: {problem}")
        return Check("checkpoint", "passed", "an attempt with its checkpoint ended well")

    async def _decides(self, name: str) -> Check:
        if name not in self.turns:
            return Check(name, "not shown", f"give the input of {TURNS[name]}, as {name!r}")
        trial = await self._try(self.turns[name])
        if _EXPECTED[name](trial):
            return Check(name, "passed", _summary(trial))
        return Check(name, "failed", f"{TURNS[name]} came to {_summary(trial)}")

    # ------------------------------------------------------------ one turn

    @property
    def _normal(self) -> Any:
        return self.turns.get("answer", DEFAULT_TURNS["answer"])

    @property
    def _slow(self) -> Any:
        return self.turns.get("slow", self._normal)

    async def _try(self, input: Any, *, checkpoint: bytes | None = None, **script: Any) -> _Trial:
        watch = _Watch()
        command = watch.command(self.argv)

        async def handle(turn: Turn) -> Outcome:
            if checkpoint is not None:
                checkpoint_of(turn).write_bytes(checkpoint)
            try:
                return await command(turn)
            finally:
                command.forget(turn)

        command.check()
        options = WorkerOptions(time_limit_seconds=self.seconds, interrupt_seconds=_GRACE_SECONDS)
        trial = watch.seen(await play(handle, input, options=options, **script))
        self._trials.append(trial)
        return trial


class _Watch:
    """Observes a command during one turn."""

    def __init__(self) -> None:
        self._mark = uuid.uuid4().hex
        self._exit_code: int | None = None
        self._checkpoint: bytes | None = None
        self._output_bytes = 0
        self._left_others = False

    def command(self, argv: Sequence[str]) -> CommandHandler:
        environment = ChildEnvironment(added={"CG_CHECK_ID": self._mark})
        return CommandHandler(argv, environment=environment, on_line=self._count, on_exit=self._note)

    def seen(self, played: Played) -> _Trial:
        return _Trial(
            played=played,
            exit_code=self._exit_code,
            checkpoint=self._checkpoint,
            output_bytes=self._output_bytes,
            left_others=self._left_others,
            survivors=_processes_with(self._mark),
        )

    def _count(self, line: str) -> None:
        self._output_bytes += len(line.encode()) + 1

    def _note(self, turn: Turn, command: CommandExit) -> None:
        self._exit_code = command.exit_code
        self._left_others = command.left_others
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


_EXPECTED: Mapping[str, Callable[[_Trial], bool]] = {
    "suspend": lambda trial: isinstance(trial.outcome, Suspended) and trial.exit_code == 0,
    "fail": lambda trial: (
        isinstance(trial.outcome, Failed) and trial.problem is None and bool(trial.exit_code)
    ),
    "later": lambda trial: trial.played.suspended_reason == RETRY_REASON,
}


def _ended(name: str, trial: _Trial, ignored: str) -> Check:
    """Return the check that a slow command ended when it was told to."""
    if trial.played.interruption is None:
        return Check(name, "not shown", _over_too_soon())
    if trial.was_killed:
        return Check(name, "failed", f"{ignored} within {_GRACE_SECONDS:g} s, so it was killed")
    return Check(name, "passed", f"it ended by itself, exit status {trial.exit_code}")


def _summary(trial: _Trial) -> str:
    outcome = trial.outcome
    ended = f", exit status {trial.exit_code}"
    if isinstance(outcome, Suspended):
        return f"suspended, {outcome.reason!r}{ended}"
    if isinstance(outcome, Failed):
        return f"failed, {trial.problem or outcome.payload.get('error')}{ended}"
    return f"{type(outcome).__name__.lower()}{ended}"


def _over_too_soon() -> str:
    return f"it was done within {_STOP_AFTER_SECONDS:g} s: give the input of {TURNS['slow']}, as 'slow'"
