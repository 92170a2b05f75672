"""Resume turns that workers of this agent have suspended for later (difference 22).

The ledger says which turns those are, so any live worker of the agent can resume them, also after another
worker was killed. Turns are resumed that were suspended with `worker_shutdown`; with `worker_retry`, once
`not_before` has passed or a stop is requested; with `await_time`, once `not_before` has passed; with
`await_children`, once the children are closed; with `no_handler`, if there is a handler now; and with
`await_answer`, once their time is over or a stop is requested, since nothing else would end them. No other
turns are resumed, and none that the kernel itself wakes. The resumer also sweeps the outbox.
"""

from __future__ import annotations

from contextlib import aclosing
from datetime import datetime

import anyio
import anyio.abc

from cgworker.client import KernelClient
from cgworker.errors import CommonGroundError, ConflictError, KernelRefused
from cgworker.events import Listener, TurnResumed, emit, logger
from cgworker.outcome import (
    AWAIT_ANSWER_REASON,
    AWAIT_CHILDREN_REASON,
    AWAIT_TIME_REASON,
    NO_HANDLER_REASON,
    RETRY_REASON,
    SHUTDOWN_REASON,
    Suspended,
)
from cgworker.wire.absent import ABSENT
from cgworker.wire.projections import TurnEntry
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.turns import TurnSnapshot
from cgworker.worker.batching.limiter import background_calls
from cgworker.worker.kernel_time import KernelTime
from cgworker.worker.outbox.outbox import Outbox
from cgworker.worker.resuming.child_waits import ChildWaitWatcher
from cgworker.worker.resuming.outbox_sweeper import OutboxSweeper
from cgworker.worker.resuming.suspended import SuspendedTurns
from cgworker.worker.routing import Routes
from cgworker.worker.suspension import SuspensionCause, cause_of_suspension

_SCAN_SECONDS = 120.0
_AFTER_TROUBLE_SECONDS = 30.0


class Resumer:
    """Resumes the suspended turns of one agent when they are due.

    Args:
        kernel: calls under the agent's identity.
        agent: the agent.
        routes: the kinds of turn that the worker handles.
        outbox: the outbox to sweep.
        kernel_time: the kernel's clock, which decides when a turn may be tried again.
        poll_seconds: the longest pause between two reads at a kernel that cannot long-poll.
        listener: called for each resumed turn.
    """

    def __init__(
        self,
        kernel: KernelClient,
        agent: AgentRef,
        routes: Routes,
        outbox: Outbox,
        kernel_time: KernelTime,
        *,
        poll_seconds: float,
        listener: Listener | None,
    ) -> None:
        self._kernel = kernel
        self._agent = agent
        self._routes = routes
        self._kernel_time = kernel_time
        self._listener = listener
        self._child_waits = ChildWaitWatcher(kernel, agent.project_id, poll_seconds, self._wake)
        self._suspended = SuspendedTurns(kernel, agent)
        self._sweeper = OutboxSweeper(outbox, kernel, agent, listener)
        self._not_ours: dict[TurnRef, datetime] = {}

    async def run(self, tasks: anyio.abc.TaskGroup) -> None:
        """Scan now and then until cancelled. Waiting parents are watched in tasks of this group."""
        with self._child_waits.watched_in(tasks):
            while True:
                next_scan_seconds = await self.scan()
                await anyio.sleep(next_scan_seconds)

    def track(self, turn: TurnRef, suspended: Suspended) -> None:
        """Watch the children of a turn of this worker that was just suspended to wait for them."""
        if suspended.reason == AWAIT_CHILDREN_REASON:
            self._child_waits.add(turn)

    async def scan(self) -> float:
        """Sweep the outbox, resume the turns that are due, and return the seconds until the next scan."""
        try:
            async with background_calls(self._kernel):
                await self._sweeper.sweep()
                suspended = await self._suspended.find()
            waits = [await self._check(turn, facts) for turn, facts in suspended.items()]
        except CommonGroundError as trouble:
            logger.debug("looking for suspended turns failed: %s", trouble)
            return _AFTER_TROUBLE_SECONDS
        self._not_ours = {turn: at for turn, at in self._not_ours.items() if turn in suspended}
        return min(waits, default=_SCAN_SECONDS)

    async def _check(self, turn: TurnRef, facts: TurnEntry | TurnSnapshot) -> float:
        if self._child_waits.watches(turn) or self._not_ours.get(turn) == facts.updated_at:
            return _SCAN_SECONDS
        try:
            return await self._resume_if_due(turn, facts)
        except KernelRefused as refused:  # the other turns need not wait for it
            logger.debug("%s stays suspended for now: %s", turn, refused)
            return _AFTER_TROUBLE_SECONDS

    async def resume_later(self, turn: TurnRef, after_seconds: float, reason: str) -> None:
        """Resume a turn after some seconds, without reading the ledger."""
        await anyio.sleep(after_seconds)
        try:
            await self._resume(turn, reason)
        except CommonGroundError as trouble:
            logger.warning("%s stays suspended for now (%s): %s", turn, reason, trouble)

    async def _resume_if_due(self, turn: TurnRef, facts: TurnEntry | TurnSnapshot) -> float:
        cause = await self._last_cause(turn)
        if cause.reason == AWAIT_CHILDREN_REASON:
            self._child_waits.add(turn)
            return _SCAN_SECONDS
        is_woken_by_kernel = facts.resume_at is not ABSENT
        if is_woken_by_kernel or not self._is_ours(cause, facts):
            self._not_ours[turn] = facts.updated_at
            return _SCAN_SECONDS
        if cause.not_before is not None and not facts.stop_requested:
            await self._kernel_time.learn(self._kernel)
            seconds = (cause.not_before - self._kernel_time.now()).total_seconds()
            if seconds > 0:
                return min(max(seconds, 0.1), _SCAN_SECONDS)
        await self._resume(turn, cause.reason or "")
        return _SCAN_SECONDS

    def _is_ours(self, cause: SuspensionCause, facts: TurnEntry | TurnSnapshot) -> bool:
        if cause.reason == NO_HANDLER_REASON:
            return self._routes.find(facts.turn_kind) is not None
        if cause.reason == AWAIT_ANSWER_REASON:
            return facts.stop_requested or cause.not_before is not None
        return cause.reason in (SHUTDOWN_REASON, RETRY_REASON, AWAIT_TIME_REASON)

    async def _last_cause(self, turn: TurnRef) -> SuspensionCause:
        cause = SuspensionCause(None, {})
        async with aclosing(self._kernel.turns.events(turn)) as events:
            async for event in events:
                if event.event_type == "turn.suspended" and event.subject_id == turn.turn_id:
                    cause = cause_of_suspension(event)
        return cause

    async def _wake(self, parent: TurnRef) -> None:
        await self._resume(parent, AWAIT_CHILDREN_REASON)

    async def _resume(self, turn: TurnRef, reason: str) -> None:
        try:
            await self._kernel.turns.resume(turn, requested_by=self._agent)
        except ConflictError:  # another worker has resumed it
            return
        emit(self._listener, TurnResumed(turn=turn, reason=reason))
