"""One run of a worker: claim turns into free slots, work them, and end in order.

At shutdown the runner stops claiming, waits for the attempts it holds while their leases are still renewed,
then interrupts the rest and hands their turns back. Attempts run in a shielded scope, so that cancelling
`run()` ends them in the same order and not in the middle of a settle call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio
import anyio.abc
from attrs import frozen

from cgworker import events
from cgworker.errors import CredentialRefused, UsageError
from cgworker.events import Event, LoopBlocked, emit
from cgworker.lease import monotonic
from cgworker.outcome import Suspended
from cgworker.renewal import RenewalScheduler
from cgworker.wire.refs import AgentRef
from cgworker.worker.attempt import Attempt
from cgworker.worker.batching.calls import MAX_CLAIMED, PrefetchedClaim
from cgworker.worker.claimed import FetchedClaim
from cgworker.worker.context import RunContext, call_hook
from cgworker.worker.drain import Drain
from cgworker.worker.handler_tasks import HandlerTasks
from cgworker.worker.loop_monitor import loop_monitor
from cgworker.worker.poller import ClaimPoller
from cgworker.worker.presence import publish_presence
from cgworker.worker.resuming.resumer import Resumer
from cgworker.worker.turn_report import TurnReport

_SLOW_HOOK_SECONDS = 1.0


@frozen
class _RunScope:
    """Where turns are worked: the free slots, the tasks, those of handlers, and the renewal of leases."""

    slots: anyio.Semaphore
    tasks: anyio.abc.TaskGroup
    handlers: HandlerTasks
    renewals: RenewalScheduler


class Runner:
    """The running part of a worker. Made anew by each `Worker.run()`.

    Args:
        context: what the attempts share.
        agent: the agent whose turns it works.
        may_claim: called before each claim; False puts the claim off. What it raises ends the run.
        on_settled: the user's hook for the end of each attempt, if there is one.

    Attributes:
        stuck_count: how many handlers did not end when they had to.
        is_ended_by_stuck: whether such a handler has drained the worker.
        error: the error that ends the worker, if any.
    """

    def __init__(
        self,
        context: RunContext,
        agent: AgentRef,
        may_claim: Callable[[], bool],
        on_settled: Callable[[TurnReport], Awaitable[None]] | None,
    ) -> None:
        self._context = context
        self._agent = agent
        self._may_claim = may_claim
        self._on_settled = on_settled
        self._poller = ClaimPoller(context.kernel, context.options, context.listener)
        self._resumer = Resumer(
            context.kernel,
            agent,
            context.routes,
            context.outbox,
            context.kernel_time,
            poll_seconds=context.options.poll_seconds,
            listener=context.listener,
        )
        self._drain = Drain(context, agent)
        self._claim_scope = anyio.CancelScope()
        self._attempt_tasks: anyio.abc.TaskGroup | None = None
        self._renewals: RenewalScheduler | None = None
        self._is_hook_slow = False
        self._unsettled_count = 0
        self.stuck_count: int = 0
        self.is_ended_by_stuck: bool = False
        self.error: BaseException | None = None

    @property
    def held_count(self) -> int:
        """How many turns are held now."""
        return len(self._drain.attempts)

    @property
    def has_unsettled(self) -> bool:
        """Whether a turn is held, or ended since the drain without the kernel knowing its outcome."""
        return self.held_count > 0 or self._unsettled_count > 0

    def drain(self, *, force: bool = False) -> None:
        """Stop claiming, and end when the attempts held have ended.

        Args:
            force: without a grace period.
        """
        if self._drain.begin():
            self._claim_scope.cancel()
        if force:
            self._drain.force()

    async def run(self, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Work until drained. A cancellation drains with no grace period.

        Args:
            task_status: started once the worker claims.
        """
        async with anyio.create_task_group() as outside:
            try:
                with self._claim_scope:
                    await self._claim_until_drained(outside, task_status)
                await self._poller.release_unanswered()
                await self._drain.finish()
            except BaseException:
                self.drain(force=True)
                with anyio.CancelScope(shield=True):
                    await self._poller.release_unanswered()
                    await self._drain.finish()
                raise
            finally:
                if self._attempt_tasks is not None:
                    self._attempt_tasks.cancel_scope.cancel()

    async def _hold_attempts(self, *, task_status: anyio.abc.TaskStatus[anyio.abc.TaskGroup]) -> None:
        """Host the attempt tasks in a shielded scope, so that cancelling `run()` does not cancel them midway.

        Suspended turns are resumed beside them.
        """
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as working:
                with loop_monitor().notifying(self._note_blocked, working):
                    if (seconds := self._context.options.presence_seconds) is not None:
                        working.start_soon(publish_presence, self._context.kernel, self._agent, seconds)
                    task_status.started(working)
                    await self._resumer.run(working)

    def _note_blocked(self, blocked: LoopBlocked) -> None:
        """Check all leases after the loop was blocked or the machine slept: sleeping tasks may be late."""
        self._emit(blocked)
        if self._renewals is not None:
            self._renewals.recheck()
        for attempt in tuple(self._drain.attempts):
            attempt.check_clock()

    # ------------------------------------------------------------ claiming

    async def _claim_until_drained(
        self, outside: anyio.abc.TaskGroup, task_status: anyio.abc.TaskStatus[None]
    ) -> None:
        concurrency = await self._concurrency()
        slots = anyio.Semaphore(concurrency)
        await self._poller.reconcile()
        self._emit_started(concurrency)
        self._attempt_tasks = working = await outside.start(self._hold_attempts)
        task_status.started()
        self._renewals = RenewalScheduler(working)
        scope = _RunScope(slots, working, HandlerTasks(working), self._renewals)
        while True:
            for found in await self._claim_into(slots):
                scope.handlers.start_soon(self._work_in_slot, scope, found)

    async def _concurrency(self) -> int:
        if self._context.options.concurrency is not None:
            return self._context.options.concurrency
        return await self._poller.capacity()

    async def _claim_into(self, slots: anyio.Semaphore) -> Sequence[FetchedClaim]:
        """Wait for free slots and for claims to fill them, and release the slots that stay free."""
        free_count = await self._take_free(slots)
        claims: Sequence[FetchedClaim] = ()
        try:
            claims = await self._poller.next(self._may_claim_now, free_count)
        except (UsageError, CredentialRefused) as unusable:  # the command is gone (difference 17)
            self._end_with(unusable)
            await anyio.sleep_forever()  # until the drain that has just begun cancels it
        finally:
            for _ in range(free_count - len(claims)):
                slots.release()
        return claims

    def _may_claim_now(self) -> bool:
        """Whether to claim: never between a drain and the moment when it cancels the claiming task."""
        return self._drain.began_at is None and self._may_claim()

    async def _take_free(self, slots: anyio.Semaphore) -> int:
        """Wait until a slot is free, take it and others that are free, and return how many were taken."""
        await slots.acquire()
        shared = self._context.shared_slots
        most = MAX_CLAIMED if shared is None else min(MAX_CLAIMED, max(shared.value, 1))
        taken = 1
        while taken < most and slots.value:
            slots.acquire_nowait()
            taken += 1
        return taken

    # ------------------------------------------------------------ working

    async def _work_in_slot(self, scope: _RunScope, fetched: FetchedClaim) -> None:
        """Work a claim and those that come with the answers, until there is none or something to clean up."""
        following: FetchedClaim | None = fetched
        while following is not None:
            following = await self._work(scope, following)

    async def _work(self, scope: _RunScope, fetched: FetchedClaim) -> FetchedClaim | None:
        """Work a claim, and return the one for its slot that is to be worked next in the same task."""
        attempt = Attempt(self._context, fetched, scope.renewals, scope.handlers, self._prefetch_claim)
        self._drain.hold(attempt)
        leaves_nothing = False
        try:
            report = await attempt.run()
            await self._note_end(attempt, report, scope.tasks)  # this may drain the run: no claim after that
            leaves_nothing = not attempt.has_to_clean_up
        except Exception:  # a fault of ours: the turn is claimed again when its lease ends; other turns go on
            events.logger.exception("%s: the attempt broke down", attempt.ref)
        finally:
            prefetched: FetchedClaim | None = None
            if attempt.prefetch is not None and self._drain.began_at is None:
                prefetched = self._poller.collect(attempt.prefetch)
            elif attempt.prefetch is not None:
                await self._poller.release_prefetched(attempt.prefetch)
            self._drain.attempts.discard(attempt)
            if prefetched is None:
                scope.slots.release()
            elif not leaves_nothing:  # cleaning up may take long
                scope.handlers.start_soon(self._work_in_slot, scope, prefetched)
        if leaves_nothing:
            return prefetched
        with anyio.CancelScope(shield=True):  # also at the end of the run
            await attempt.clean_up()
        return None

    def _prefetch_claim(self) -> PrefetchedClaim | None:
        """Return a claim to go along with a settle request, for the slot that it frees, or None.

        Other slots may be free meanwhile: a claim request for them is under way, and takes fewer turns at a
        time than short handlers end. Nothing is prefetched while `on_settled` is slow: the prefetched claim
        would not be renewed until the hook returns.
        """
        try:
            if self._is_hook_slow or not self._may_claim_now():
                return None
            return self._poller.prefetch()
        except UsageError:  # the command is gone: the next claim request reports it
            return None

    async def _note_end(self, attempt: Attempt, report: TurnReport, working: anyio.abc.TaskGroup) -> None:
        if attempt.stuck:
            self._note_stuck(report)
        if report.error is not None:
            self._end_with(report.error)
        if self._drain.began_at is not None and not report.settled:
            self._unsettled_count += 1
        outcome = report.outcome
        if isinstance(outcome, Suspended) and report.settled:
            self._resumer.track(report.turn, outcome)
            if (seconds := attempt.resume_after_seconds) is not None:
                working.start_soon(self._resumer.resume_later, report.turn, seconds, outcome.reason)
        if self._on_settled is not None:
            begun_at = monotonic()
            await call_hook(self._on_settled, report)
            self._is_hook_slow = monotonic() - begun_at > _SLOW_HOOK_SECONDS

    def _note_stuck(self, report: TurnReport) -> None:
        self.stuck_count += 1
        self._emit(
            events.HandlerStuck(
                turn=report.turn, agent=self._agent, attempt=report.attempt, stuck_count=self.stuck_count
            )
        )
        if self._context.options.on_stuck == "drain":
            self.is_ended_by_stuck = True
            self.drain()

    def _end_with(self, error: BaseException) -> None:
        self.error = error
        self.drain(force=isinstance(error, KeyboardInterrupt))

    def _emit_started(self, concurrency: int) -> None:
        options = self._context.options
        self._emit(
            events.WorkerStarted(
                agent=self._agent,
                kernel=self._context.kernel.base_url,
                concurrency=concurrency,
                grace_seconds=options.grace_seconds,
                max_attempts=options.max_attempts,
                time_limit_seconds=options.time_limit_seconds,
            )
        )

    def _emit(self, event: Event) -> None:
        emit(self._context.listener, event)
