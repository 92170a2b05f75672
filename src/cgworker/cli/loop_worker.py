"""The worker of `cg worker once` and `loop`, which reports its last turn (command line 4.3, 4.4)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
from attrs import evolve, frozen

from cgworker.cli.command_flags import CommandFlags
from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import ServerFlags
from cgworker.cli.results import (
    TurnResult,
)
from cgworker.cli.worker_results import (
    FailedLoop,
    LoopResult,
    NothingClaimed,
    UnreadTurn,
    WorkedTurn,
)
from cgworker.client import KernelClient
from cgworker.errors import CommonGroundError
from cgworker.handlers import CommandExit, CommandHandler, ResidentCommandHandler
from cgworker.lease import Reason
from cgworker.outcome import Failed, Suspended, word_for
from cgworker.printable import log_to_stderr
from cgworker.turn import Turn
from cgworker.wire.absent import ABSENT
from cgworker.wire.refs import TurnRef
from cgworker.worker import TurnReport, Worker, WorkerOptions
from cgworker.worker.process.exit import Ending
from cgworker.worker.process.serve import watch_signals


@frozen
class LastTurn:
    """The report of a worked turn, and how its command ended, if it ran."""

    report: TurnReport
    command: CommandExit | None

    @property
    def failed(self) -> bool:
        """Whether the turn counts as failed for `--exit-on-failure`; a turn that was handed back does not."""
        outcome = self.report.outcome
        return not self.report.settled or isinstance(outcome, Failed) or self.unread

    @property
    def unread(self) -> bool:
        """Whether the turn was suspended because its context could not be read."""
        return self.report.kind is None and isinstance(self.report.outcome, Suspended)


class LoopWorker(Worker):
    """The worker of `cg worker once` and `cg worker loop`.

    Args:
        kernel: the kernel, with the agent's identity.
        handler: runs the command.
        options: limits and behaviour.
    """

    exit_on_failure = False

    def __init__(
        self,
        kernel: KernelClient,
        handler: CommandHandler | ResidentCommandHandler,
        *,
        options: WorkerOptions,
    ) -> None:
        if isinstance(handler, CommandHandler):
            handler = evolve(handler, on_exit=self._note_exit)
        super().__init__(kernel, handler, options=options)
        self._exits: dict[TurnRef, CommandExit] = {}
        self._asked_count = 0
        self._claimed_count = 0
        self._last: LastTurn | None = None
        self._is_drained = False

    async def work_one(self) -> WorkedTurn | UnreadTurn | NothingClaimed:
        """Claim one turn and work it. Claims nothing if a signal has drained the worker already.

        Returns:
            How the turn went, or that no turn was claimed.
        """
        report = None if self._is_drained else await self.once()
        return NothingClaimed() if report is None or self._last is None else await self._tell(self._last)

    async def work_at_most(self, iterations: int) -> None:
        """Work one turn after the other, and end when there is none.

        Args:
            iterations: how many times to ask for work at most.
        """
        while self._asked_count < iterations and not self._is_drained:
            self._asked_count += 1
            if await self.once() is None:
                self._last = None
                return

    async def result(self) -> LoopResult:
        """Return how the loop went; reads the last turn from the kernel."""
        last = NothingClaimed() if self._last is None else await self._tell(self._last)
        kind = FailedLoop if self.exit_on_failure and self._last and self._last.failed else LoopResult
        return kind(iterations=self._asked_count, claimed_count=self._claimed_count, last=last)

    # ------------------------------------------------------------ hooks of the worker

    def select(self) -> bool:
        """Count a request for work; the worker calls it before each."""
        self._asked_count += 1
        return True

    async def on_settled(self, report: TurnReport) -> None:
        """Remember the turn, and drain after a failure if `exit_on_failure` is set."""
        self._claimed_count += 1
        self._last = LastTurn(report, self._exits.pop(report.turn, None))
        if self.exit_on_failure and self._last.failed:
            self.drain()

    def drain(self, *, force: bool = False, hurry: bool | None = None) -> None:
        """Claim no more turns; see `Worker.drain`."""
        self._is_drained = True
        super().drain(force=force, hurry=hurry)

    def _note_exit(self, turn: Turn, command: CommandExit) -> None:
        self._exits[turn.ref] = command

    # ------------------------------------------------------------ results

    async def _tell(self, worked: LastTurn) -> WorkedTurn | UnreadTurn:
        report, command = worked.report, worked.command
        facts: dict[str, Any] = {
            "project_id": report.turn.project_id,
            "turn_id": report.turn.turn_id,
            "agent_id": self.agent.agent_id,
        }
        if worked.unread:
            return _unread(report, facts)
        if command is not None:
            facts |= {"context_file": str(command.context_file), "child_exit_code": command.exit_code}
        if report.redelivered:
            facts["redelivered"] = True
        if not report.settled:
            return _not_settled(report, facts)
        if command is None and isinstance(report.outcome, Suspended) and report.outcome.note:
            facts["note"] = report.outcome.note  # says why its command was not started
        return WorkedTurn(**facts, **_settled(report), turn=await self._turn_as_it_is(report.turn))

    async def _turn_as_it_is(self, turn: TurnRef) -> Any:
        """Read the turn again; ABSENT if the kernel does not answer, for the turn is settled either way."""
        try:
            return TurnResult.of(await self.kernel.turns.get(turn))
        except CommonGroundError:
            return ABSENT


def _settled(report: TurnReport) -> dict[str, Any]:
    outcome = report.outcome
    assert outcome is not None
    if isinstance(outcome, Suspended):
        return {"suspended": True, "reason": outcome.reason}
    failure = {"failure_payload": outcome.payload} if isinstance(outcome, Failed) else {}
    return {"finished": True, "outcome": word_for(outcome), **failure}


def _not_settled(report: TurnReport, facts: dict[str, Any]) -> WorkedTurn:
    if report.interruption is not None and report.interruption.reason is Reason.LEASE_LOST:
        return WorkedTurn(**facts, lease_lost=True, lease_error=report.interruption.note or report.reason)
    return WorkedTurn(**facts, not_settled=report.reason, kept_at=report.kept_at or ABSENT)


def _unread(report: TurnReport, facts: dict[str, Any]) -> UnreadTurn:
    assert isinstance(report.outcome, Suspended)
    return UnreadTurn(
        **facts,
        context_error=report.outcome.note or report.outcome.reason,
        suspended_after_failure=report.settled,
        suspend_error=ABSENT if report.settled else report.reason,
    )


@asynccontextmanager
async def running_worker(
    server: ServerFlags,
    runtime: CommandFlags,
    options: WorkerOptions,
    *,
    handler: CommandHandler | ResidentCommandHandler,
    ending: Ending,
) -> AsyncIterator[LoopWorker]:
    """Make the worker, and drain it at SIGTERM or SIGINT while the block runs.

    Args:
        server: names the kernel and the agent.
        runtime: the agent's flags.
        options: how the worker behaves.
        handler: runs the command.
        ending: ends the process in time after a signal.
    """
    agent = acting_agent(server, runtime.project_id, runtime.agent_id)
    async with (
        _staying(handler) as runs,
        as_actor(server, agent) as kernel,
        anyio.create_task_group() as background,
    ):
        worker = LoopWorker(kernel, runs, options=options)
        ending.watch([worker])
        drain = partial(watch_signals, lambda force: worker.drain(force=force), at_once=ending.begin)
        await background.start(drain)
        yield worker
        background.cancel_scope.cancel()


@asynccontextmanager
async def _staying(
    handler: CommandHandler | ResidentCommandHandler,
) -> AsyncIterator[CommandHandler | ResidentCommandHandler]:
    """Let a resident command stay for all runs of the worker: with --max-iterations each turn is one."""
    if isinstance(handler, CommandHandler):
        yield handler
        return
    async with handler.opened() as staying:
        yield staying


def log_worker_to_stderr(level: int) -> None:
    """Log to stderr from this level on, and of httpx only warnings."""
    log_to_stderr(level)
    logging.getLogger("httpx").setLevel(logging.WARNING)
