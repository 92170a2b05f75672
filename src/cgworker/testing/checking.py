"""Check that a command keeps the command contract: run it on a set of turns and report what happened.

The real `CommandHandler` runs each turn (`playing.py`): the files, the child process, its environment and
its end are those of a worker. The general rules are checked with every command. Optional behaviour, such as
suspending, is checked only if the caller names an input that triggers it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Literal

import anyio
from attrs import evolve, field, frozen

from cgworker.errors import UsageError
from cgworker.handlers import ResidentCommandHandler
from cgworker.handlers.folder import checkpoint_of
from cgworker.outcome import RETRY_REASON, Failed, Outcome, Succeeded, Suspended
from cgworker.testing.playing import play
from cgworker.testing.trial import Trial, Watch
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
_LOOK_AFTER_SECONDS = 0.3
_MAX_OUTPUT_BYTES = 4 * 1024 * 1024


@frozen
class Check:
    """The result of one check.

    Attributes:
        name: what was checked.
        verdict: "passed", "failed" or "not shown".
        detail: what happened, or which input would show it.
        printed: the last lines that the command printed, if the check failed.
    """

    name: str
    verdict: Verdict
    detail: str
    printed: tuple[str, ...] = ()


@frozen
class CommandCheck:
    """The check of one command.

    Args:
        argv: the command and its arguments.
        turns: inputs by the names in `TURNS`; a normal turn is added if there is none.
        seconds: how long a turn may take.
        is_resident: whether the command stays, and gets its turns as lines.

    Raises:
        UsageError: the caller's fault: a turn has another name.
    """

    argv: Sequence[str]
    turns: Mapping[str, Any] = DEFAULT_TURNS
    seconds: float = 60.0
    is_resident: bool = False
    _trials: list[Trial] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        if unknown := self.turns.keys() - TURNS.keys():
            known = "; ".join(f"{name}: {what}" for name, what in TURNS.items())
            raise UsageError(f"there is no turn {', '.join(sorted(unknown))} to check with. {known}")

    async def run(self) -> AsyncIterator[Check]:
        """Yield the results of the checks as they become known."""
        tried_count = 0
        async for check in self._checks():
            tried, tried_count = self._trials[tried_count:], len(self._trials)
            if check.verdict == "failed":
                blamed = [trial for trial in tried if trial.problem] or tried
                check = evolve(check, printed=blamed[-1].tail if blamed else ())
            yield check

    async def _checks(self) -> AsyncIterator[Check]:
        yield await self._answers()
        if self.is_resident:
            yield await self._stays()
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
            how = "a line" if self.is_resident else "whole JSON in CG_FINAL_FILE, with exit status 0"
            return Check("answer", "passed", f"it left its result as {how}")
        return Check("answer", "failed", f"a normal turn came to {_summary(trial)}")

    async def _stays(self) -> Check:
        """Check that one process answers several turns, and writes nothing between them."""
        async with ResidentCommandHandler(self.argv, on_line=lambda _: None).opened() as command:
            options = WorkerOptions(time_limit_seconds=self.seconds, interrupt_seconds=_GRACE_SECONDS)
            first = await play(command, self._normal, options=options)
            await anyio.sleep(_LOOK_AFTER_SECONDS)
            ids = command.process_ids
            second = await play(command, self._normal, options=options)
            await anyio.sleep(_LOOK_AFTER_SECONDS)
            if not ids or ids != command.process_ids:
                detail = "it ended, or wrote something after its answer, so it was replaced"
                return Check("stays", "failed", detail)
        if isinstance(first.outcome, Succeeded) and isinstance(second.outcome, Succeeded):
            return Check("stays", "passed", "one process answered two turns")
        return Check("stays", "failed", "two normal turns, one after the other, did not both succeed")

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
            return Check(name, "not shown", f"give the input of {TURNS[name]}, as {name!r} (--turns-json)")
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

    async def _try(self, input: Any, *, checkpoint: bytes | None = None, **script: Any) -> Trial:
        watch = Watch()
        command = watch.command(self.argv, is_resident=self.is_resident)

        async def handle(turn: Turn) -> Outcome:
            if checkpoint is not None:
                checkpoint_of(turn).write_bytes(checkpoint)
            try:
                return await command(turn)
            finally:
                watch.see_checkpoint(turn)
                command.forget(turn)

        command.check()
        options = WorkerOptions(time_limit_seconds=self.seconds, interrupt_seconds=_GRACE_SECONDS)
        trial = watch.seen(await play(handle, input, options=options, **script))
        self._trials.append(trial)
        return trial


_EXPECTED: Mapping[str, Callable[[Trial], bool]] = {
    "suspend": lambda trial: isinstance(trial.outcome, Suspended) and trial.exit_code in (0, None),
    "fail": lambda trial: (
        isinstance(trial.outcome, Failed) and trial.problem is None and trial.exit_code != 0
    ),
    "later": lambda trial: trial.played.suspended_reason == RETRY_REASON,
}


def _ended(name: str, trial: Trial, ignored: str) -> Check:
    """Return the check that a slow command ended when it was told to."""
    if trial.played.interruption is None:
        return Check(name, "not shown", _over_too_soon())
    if trial.was_killed:
        return Check(name, "failed", f"{ignored} within {_GRACE_SECONDS:g} s, so it was killed")
    return Check(name, "passed", f"it ended by itself{_status(trial)}")


def _summary(trial: Trial) -> str:
    outcome = trial.outcome
    ended = _status(trial)
    if isinstance(outcome, Suspended):
        return f"suspended, {outcome.reason!r}{ended}"
    if isinstance(outcome, Failed):
        return f"failed, {trial.problem or outcome.payload.get('error')}{ended}"
    return f"{type(outcome).__name__.lower()}{ended}"


def _status(trial: Trial) -> str:
    """Return the exit status in words; a resident command has none while it stays."""
    return "" if trial.exit_code is None else f", exit status {trial.exit_code}"


def _over_too_soon() -> str:
    wanted = f"give the input of {TURNS['slow']}, as 'slow' (--turns-json)"
    return f"it was done within {_STOP_AFTER_SECONDS:g} s: {wanted}"
