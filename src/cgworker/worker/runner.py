"""One run of a worker: claim into free slots, work, and end in order.

Shutdown is a story: stop claiming, let what is held end while its leases are still renewed, then interrupt
it and hand it back. What is held runs in a shielded scope, so that a cancelled `run()` ends the same way and
not in the middle of a settle call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import anyio
import anyio.abc
from attrs import define, field, frozen

from cgworker import events
from cgworker.errors import CredentialRefused, UsageError
from cgworker.events import Event, LoopBlocked, emit
from cgworker.lease import Reason, monotonic
from cgworker.outcome import Suspended
from cgworker.renewal import RenewalScheduler
from cgworker.wire.refs import AgentRef
from cgworker.worker.attempt import Attempt
from cgworker.worker.batching.calls import MOST_CLAIMED, PrefetchedClaim
from cgworker.worker.claimed import FetchedClaim
from cgworker.worker.context import RunContext, TurnReport, tell
from cgworker.worker.loop_monitor import loop_watch
from cgworker.worker.poller import ClaimPoller
from cgworker.worker.presence import publish_presence
from cgworker.worker.resuming.resumer import Resumer

AFTER_GRACE_SECONDS = 5.0
_SLOW_HOOK_SECONDS = 1.0


@frozen
class _RunScope:
    """Where turns are worked: how many more at once, in whose tasks, and who keeps their leases."""

    slots: anyio.Semaphore
    tasks: anyio.abc.TaskGroup
    renewals: RenewalScheduler


@define(eq=False)
class _SingleRun:
    """The one attempt of `work_one`."""

    attempt: Attempt
    scope: anyio.CancelScope = field(factory=lambda: anyio.CancelScope(shield=True))
    is_over: anyio.Event = field(factory=anyio.Event)
    report: TurnReport | None = None


class Runner:
    """The running part of a worker. Made anew by each `Worker.run()`.

    Args:
        place: what attempts share.
        agent: whose turns.
        may_claim: asked before each claim; what it raises ends the shift.
        on_settled: told of each attempt's end.
    """

    def __init__(
        self,
        place: RunContext,
        agent: AgentRef,
        may_claim: Callable[[], bool],
        on_settled: Callable[[TurnReport], Awaitable[None]],
    ) -> None:
        self._place = place
        self._agent = agent
        self._may_claim = may_claim
        self._on_settled = on_settled
        self._claimer = ClaimPoller(place.kernel, place.options, place.listener)
        self._caretaker = Resumer(
            place.kernel,
            agent,
            place.routes,
            place.outbox,
            place.kernel_time,
            poll_seconds=place.options.poll_seconds,
            listener=place.listener,
        )
        self._attempts: set[Attempt] = set()
        self._claim_scope = anyio.CancelScope()
        self._attempt_tasks: anyio.abc.TaskGroup | None = None
        self._background_tasks: anyio.abc.TaskGroup | None = None
        self._renewals: RenewalScheduler | None = None
        self._grace: anyio.CancelScope | None = None
        self._drained_at: float | None = None
        self._is_hook_slow = False
        self._is_in_hurry = False
        self._is_interrupting = False
        self._unsettled_count = 0
        self.stuck_count: int = 0
        self.is_ended_by_stuck: bool = False
        self.error: BaseException | None = None

    @property
    def held_count(self) -> int:
        """How many turns are held now."""
        return len(self._attempts)

    @property
    def has_unsettled(self) -> bool:
        """Whether something is held, or came since the drain to an end that the kernel does not know."""
        return self.held_count > 0 or self._unsettled_count > 0

    def drain(self, *, hurry: bool = False) -> None:
        """Claim no more, and end when what is held has ended; `hurry` gives it no grace."""
        if self._drained_at is None:
            self._drained_at = monotonic()
            self._claim_scope.cancel()
            if self._background_tasks is not None:
                self._background_tasks.start_soon(self._end_in_order)
        if hurry:
            self._is_in_hurry = True
            if self._grace is not None:
                self._grace.cancel()

    async def run(self, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Work until drained, or until cancelled, which drains at once."""
        async with anyio.create_task_group() as outside:
            try:
                with self._claim_scope:
                    await self._claim_until_drained(outside, task_status)
                await self._claimer.release_unanswered()
                await self._end_in_order()
            except BaseException:
                self.drain(hurry=True)
                with anyio.CancelScope(shield=True):
                    await self._claimer.release_unanswered()
                    await self._end_in_order()
                raise
            finally:
                if self._attempt_tasks is not None:
                    self._attempt_tasks.cancel_scope.cancel()

    async def _hold_attempts(self, *, task_status: anyio.abc.TaskStatus[anyio.abc.TaskGroup]) -> None:
        """Hold the tasks that a cancelled `run()` does not cut off, and look after suspended turns."""
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as working:
                with loop_watch().telling(self._note_blocked, working):
                    if (seconds := self._place.options.presence_seconds) is not None:
                        working.start_soon(publish_presence, self._place.kernel, self._agent, seconds)
                    task_status.started(working)
                    await self._caretaker.run(working)

    async def work_one(self, found: FetchedClaim) -> TurnReport:
        """Work one claim and no other; a drain meanwhile ends it in order, and so does being cancelled."""
        async with anyio.create_task_group() as self._background_tasks:
            attempt = Attempt(
                self._place, found, RenewalScheduler(self._background_tasks), self._background_tasks
            )
            alone = _SingleRun(attempt)
            self._attempts.add(attempt)
            self._background_tasks.start_soon(self._work_alone, alone)
            try:
                await alone.is_over.wait()
            except BaseException:
                self.drain(hurry=True)
                with anyio.CancelScope(shield=True):
                    await self._end_in_order()
                alone.scope.cancel()
                raise
            self._background_tasks.cancel_scope.cancel()
        assert alone.report is not None  # it is over
        await tell(self._on_settled, alone.report)
        return alone.report

    async def _work_alone(self, alone: _SingleRun) -> None:
        """In its own task and scope: a cancellation from outside is not taken for what the handler does."""
        with alone.scope:
            try:
                alone.report = await alone.attempt.run()
                await alone.attempt.discard_delivered()
            finally:
                self._attempts.discard(alone.attempt)
                alone.is_over.set()

    def _note_blocked(self, blocked: LoopBlocked) -> None:
        """Or the machine stood still: what sleeps then, sleeps by a clock that stood still as well."""
        self._emit(blocked)
        if self._renewals is not None:
            self._renewals.look_again()
        for attempt in tuple(self._attempts):
            attempt.give_up_if_over()

    # ------------------------------------------------------------ claiming

    async def _claim_until_drained(
        self, outside: anyio.abc.TaskGroup, task_status: anyio.abc.TaskStatus[None]
    ) -> None:
        concurrency = await self._concurrency()
        slots = anyio.Semaphore(concurrency)
        await self._claimer.reconcile()
        self._emit_started(concurrency)
        self._attempt_tasks = working = await outside.start(self._hold_attempts)
        task_status.started()
        self._renewals = RenewalScheduler(working)
        shop = _RunScope(slots, working, self._renewals)
        while True:
            for found in await self._claim_into(slots):
                working.start_soon(self._work_in_slot, shop, found)

    async def _concurrency(self) -> int:
        if self._place.options.concurrency is not None:
            return self._place.options.concurrency
        return await self._claimer.capacity()

    async def _claim_into(self, slots: anyio.Semaphore) -> Sequence[FetchedClaim]:
        """The next claims, as soon as there are some and slots for them; what remains free is given back."""
        free_count = await self._take_free(slots)
        found: Sequence[FetchedClaim] = ()
        try:
            found = await self._claimer.next(self._may_claim_now, free_count)
        except (UsageError, CredentialRefused) as unusable:  # the command is gone (difference 17)
            self._end_with(unusable)
            await anyio.sleep_forever()  # the drain that just began cancels it
        finally:
            for _ in range(free_count - len(found)):
                slots.release()
        return found

    def _may_claim_now(self) -> bool:
        """Not in the instant between a drain and its reaching the task that claims."""
        return self._drained_at is None and self._may_claim()

    async def _take_free(self, slots: anyio.Semaphore) -> int:
        """Wait until a slot is free, and take along others that are."""
        await slots.acquire()
        shared = self._place.shared_slots
        most = MOST_CLAIMED if shared is None else min(MOST_CLAIMED, max(shared.value, 1))
        taken = 1
        while taken < most and slots.value:
            slots.acquire_nowait()
            taken += 1
        return taken

    # ------------------------------------------------------------ working

    async def _work_in_slot(self, shop: _RunScope, found: FetchedClaim) -> None:
        claim_ahead = partial(self._prefetch_claim, shop.slots)
        attempt = Attempt(self._place, found, shop.renewals, shop.tasks, claim_ahead)
        self._attempts.add(attempt)
        if self._is_interrupting:  # it was claimed in the last moment
            self._interrupt(attempt)
        try:
            report = await attempt.run()
            await self._take_note(attempt, report, shop.tasks)  # it may end the shift: no claim after that
        except Exception:  # a fault of ours: its turn comes back when the lease ends, the others go on
            events.logger.exception("%s: the attempt broke down", attempt.ref)
        finally:
            following = await self._following(attempt)
            self._attempts.discard(attempt)
            if following is None:
                shop.slots.release()
            else:
                shop.tasks.start_soon(self._work_in_slot, shop, following)
        with anyio.CancelScope(shield=True):  # also at the end of the shift
            await attempt.discard_delivered()

    def _prefetch_claim(self, slots: anyio.Semaphore) -> PrefetchedClaim | None:
        """The next claim for a slot that is about to be free. Where others are, somebody asks already.

        Nor behind a slow hook: nobody would renew it meanwhile.
        """
        try:
            if slots.value or self._is_hook_slow or not self._may_claim_now():
                return None
            return self._claimer.ahead()
        except UsageError:  # the command is gone: who claims next says so
            return None

    async def _following(self, attempt: Attempt) -> FetchedClaim | None:
        """The turn that was claimed as this attempt's was settled; after a drain it is given back."""
        if attempt.ahead is None:
            return None
        if self._drained_at is None:
            return self._claimer.take(attempt.ahead)
        await self._claimer.give_back_ahead(attempt.ahead)
        return None

    async def _take_note(self, attempt: Attempt, report: TurnReport, working: anyio.abc.TaskGroup) -> None:
        if attempt.stuck:
            self._note_stuck(report)
        if report.error is not None:
            self._end_with(report.error)
        if self._drained_at is not None and not report.settled:
            self._unsettled_count += 1
        outcome = report.outcome
        if isinstance(outcome, Suspended) and report.settled:
            self._caretaker.take_note(report.turn, outcome)
            if (seconds := outcome.resume_after_seconds) is not None and seconds > 0:
                working.start_soon(self._caretaker.resume_later, report.turn, seconds, outcome.reason)
        begun_at = monotonic()
        await tell(self._on_settled, report)
        self._is_hook_slow = monotonic() - begun_at > _SLOW_HOOK_SECONDS

    def _note_stuck(self, report: TurnReport) -> None:
        self.stuck_count += 1
        self._emit(
            events.HandlerStuck(
                turn=report.turn, agent=self._agent, attempt=report.attempt, stuck_count=self.stuck_count
            )
        )
        if self._place.options.on_stuck == "drain":
            self.is_ended_by_stuck = True
            self.drain()

    def _end_with(self, error: BaseException) -> None:
        self.error = error
        self.drain(hurry=isinstance(error, KeyboardInterrupt))

    # ------------------------------------------------------------ the end

    async def _end_in_order(self) -> None:
        """Let held turns end within the grace, one deadline for all; then interrupt and hand back."""
        options = self._place.options
        await self._spend_the_grace(options.grace_seconds)
        cut = tuple(attempt.ref.turn_id for attempt in self._attempts)
        if not self._is_interrupting:
            self._is_interrupting = True
            for attempt in tuple(self._attempts):
                self._interrupt(attempt)
        with anyio.move_on_after(options.interrupt_seconds + AFTER_GRACE_SECONDS):
            await self._all_ended()
        self._emit(events.WorkerStopped(agent=self._agent, handed_back=cut))

    async def _spend_the_grace(self, grace_seconds: float) -> None:
        """It counts from the drain, since the last claims may have taken some of it; a hurry ends it."""
        assert self._drained_at is not None
        if self._grace is None:
            self._emit(
                events.WorkerDraining(
                    agent=self._agent, held_count=self.held_count, grace_seconds=grace_seconds
                )
            )
        with anyio.move_on_after(grace_seconds - (monotonic() - self._drained_at)) as self._grace:
            if not self._is_in_hurry:
                await self._all_ended()

    def _interrupt(self, attempt: Attempt) -> None:
        attempt.interrupt(Reason.SHUTDOWN, "the worker shuts down")

    async def _all_ended(self) -> None:
        while self._attempts:  # noqa: ASYNC110  # a handful of times, at the end of a worker's life
            await anyio.sleep(0.02)

    def _emit_started(self, concurrency: int) -> None:
        options = self._place.options
        self._emit(
            events.WorkerStarted(
                agent=self._agent,
                kernel=self._place.kernel.base_url,
                concurrency=concurrency,
                grace_seconds=options.grace_seconds,
                max_attempts=options.max_attempts,
                time_limit_seconds=options.time_limit_seconds,
            )
        )

    def _emit(self, event: Event) -> None:
        emit(self._place.listener, event)
