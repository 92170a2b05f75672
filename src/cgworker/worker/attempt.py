"""One attempt at one turn, from the claim to the report. Errors end up in the report and are not raised."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.abc

from cgworker import events
from cgworker.errors import (
    AnswerInvalid,
    CommandNotFound,
    HandlerFailed,
    KernelRefused,
    KernelTrouble,
    LeaseLost,
    PrivateStepMissing,
)
from cgworker.events import Event, emit
from cgworker.handlers import Handler
from cgworker.handlers.function import HandlerAbandoned
from cgworker.lease import Interrupted, Reason, monotonic
from cgworker.outcome import (
    NO_HANDLER_REASON,
    Failed,
    Outcome,
    Stopped,
    Succeeded,
    Suspended,
    hand_back,
    word_for,
)
from cgworker.renewal import RenewalScheduler
from cgworker.turn import Turn
from cgworker.wire.absent import Absent
from cgworker.wire.refs import TurnRef
from cgworker.worker.batching.calls import PrefetchedClaim
from cgworker.worker.claimed import FetchedClaim, lease_for, load_turn
from cgworker.worker.context import RunContext, call_hook
from cgworker.worker.handler_call import HandlerCall, end_writes, slot_of
from cgworker.worker.handler_tasks import HandlerTasks
from cgworker.worker.interruption import lost_lease_in, outcome_after
from cgworker.worker.lease_watch import LeaseWatch
from cgworker.worker.lineage import stop_children
from cgworker.worker.outbox.outbox import OutboxEntry
from cgworker.worker.redaction import error_report, failure_of, loggable
from cgworker.worker.retry_or_fail import outcome_of_error, outcome_of_failure
from cgworker.worker.settle import (
    UNACCEPTABLE,
    Settlement,
    finish_turn,
    remove_remains,
    suspend_turn,
    unacceptable_suspension,
)
from cgworker.worker.turn_report import TurnReport


class Attempt:
    """One attempt at one claimed turn. `run()` it once; `interrupt()` it at any time.

    Args:
        context: what the attempts of the worker share.
        fetched: the claim.
        renewals: renews its lease.
        handlers: calls its handler.
        prefetch_claim: called when the attempt is about to settle; returns the claim of the next turn that
            the same request shall make, or None.

    Attributes:
        error: what ends the worker, if anything.
        stuck: whether its handler did not end when it had to.
        prefetch: the claim of the next turn that went along with the settle request, if any.
        resume_after_seconds: after how long the worker has to resume the suspended turn; None if it need not.
    """

    def __init__(
        self,
        context: RunContext,
        fetched: FetchedClaim,
        renewals: RenewalScheduler,
        handlers: HandlerTasks,
        prefetch_claim: Callable[[], PrefetchedClaim | None] = lambda: None,
    ) -> None:
        self._context = context
        self._renewals = renewals
        self._handlers = handlers
        self._prefetch_claim = prefetch_claim
        self._claimed = fetched.claimed
        if not isinstance(fetched.claimed.server_time, Absent):
            context.kernel_time.note(fetched.claimed.server_time, fetched.answered_at)
        self._began_at = fetched.answered_at
        self._lease = lease_for(fetched)
        self._watch = LeaseWatch(context, fetched.claimed, self._lease)
        self._is_heard = context.hears_turns or events.logger.isEnabledFor(Event.level)
        self._closed: tuple[Turn, Settlement] | None = None
        self.error: BaseException | None = None
        self.stuck: bool = False
        self.prefetch: PrefetchedClaim | None = None
        self.resume_after_seconds: float | None = None

    @property
    def ref(self) -> TurnRef:
        """The turn it works."""
        turn = self._watch.turn
        return self._claimed.turn if turn is None else turn.ref

    def _emit(self, event: Event) -> None:
        emit(self._context.listener, event)

    def interrupt(self, reason: Reason, note: str) -> None:
        """End the handler, or keep it from being started.

        Args:
            reason: why.
            note: why, for people.
        """
        self._watch.interrupt(reason, note)

    def check_clock(self) -> None:
        """Give the turn up if its lease ended while the event loop was blocked or the machine slept."""
        self._watch.lose_if_ended()

    async def run(self) -> TurnReport:
        """Work the turn, settle it, and report what became of it."""
        stored: OutboxEntry | None = None
        outcome: Outcome | None = None
        settlement: Settlement | None = None
        renewed = self._renewals.begin(self._lease, self._watch)
        try:
            try:
                if self._lease.length_seconds is None:
                    await self._watch.confirm_lease()
                turn = await self._open()
                stored = self._context.outbox.find(turn, since=self._began_at)
                outcome = stored.outcome if stored else await self._decide(turn)
                if isinstance(outcome, Stopped) and self._context.options.stop_children:
                    await stop_children(self._context.kernel, turn)
            except LeaseLost as lost:
                self._watch.lost(str(lost))
            except (KernelRefused, AnswerInvalid) as unreadable:
                outcome = Suspended("context_fetch_error", str(unreadable))
            if outcome is not None:
                settlement = await self._settle(outcome, stored)
        finally:
            self._renewals.end(renewed)
        return self._report(outcome, settlement, redelivered=stored is not None)

    @property
    def has_to_clean_up(self) -> bool:
        """Whether a closed turn may have left something behind that `clean_up` removes."""
        if self._closed is None:
            return False
        turn, settled = self._closed
        return settled.delivered is not None or (settled.done and turn.may_have_private)

    async def clean_up(self) -> None:
        """Remove what a closed turn leaves behind: after the end, so that nothing waits for the disk."""
        if self._closed is not None:
            keep_private = self._context.options.keep_private
            await remove_remains(*self._closed, self._context.outbox, keep_private=keep_private)

    # ------------------------------------------------------------ load the turn

    async def _open(self) -> Turn:
        turn = await load_turn(self._context, self._claimed, self._lease, self._handlers.start_beside)
        self._watch.set_turn(turn)
        if self._is_heard:
            next_at = self._watch.next_at(self._lease, self._renewals.held.count)
            to_next = round(max(next_at - self._lease.clock(), 0.0), 1)
            self._emit(events.TurnClaimed(**self._watch.facts, kind=turn.kind, renewal_seconds=to_next))
        if self._context.options.follow_parent:
            await self._watch.follow_parent()
        return turn

    # ------------------------------------------------------------ decide the outcome

    async def _decide(self, turn: Turn) -> Outcome | None:
        if turn.snapshot.stop_requested:
            return Stopped({"status": "stopped"})
        if turn.attempt > self._context.options.max_attempts:
            return Failed({"error": "attempts_exhausted", "attempts": turn.attempt - 1})
        handler = self._context.wrapped.find(turn.kind)
        if handler is None:
            return Suspended(NO_HANDLER_REASON, f"no handler for {turn.kind}")
        if self._context.on_claimed is not None:
            await call_hook(self._context.on_claimed, turn)
        if self._context.options.time_limit_seconds is None:
            decided = await self._run_handler(turn, handler)
        else:
            decided = await self._run_within_its_limit(turn, handler)
        if turn.interruption is None:
            return decided
        self._emit(events.TurnInterrupted(**self._watch.facts, reason=turn.interruption.reason))
        if self._context.on_interrupted is not None:
            await call_hook(self._context.on_interrupted, turn, turn.interruption)
        return outcome_after(turn.interruption, decided, self._context.options.time_limit_seconds)

    async def _run_within_its_limit(self, turn: Turn, handler: Handler) -> Outcome | None:
        async with anyio.create_task_group() as timers:
            decided = await self._run_handler(turn, handler, timers)
            timers.cancel_scope.cancel()
        return decided

    async def _interrupt_at_deadline(self) -> None:
        limit = self._context.options.time_limit_seconds
        assert limit is not None
        await anyio.sleep(limit)
        self._watch.interrupt(Reason.DEADLINE, f"after {limit:g} s")

    async def _run_handler(
        self, turn: Turn, handler: Handler, timers: anyio.abc.TaskGroup | None = None
    ) -> Outcome | None:
        """Run the handler and return its outcome.

        Args:
            turn: the turn.
            handler: its handler, with middleware around it.
            timers: runs the countdown of the time limit once the handler starts; None if there is no limit.

        Returns:
            The outcome; None if the handler was cancelled, was never started, is stuck, or lost the lease.
        """
        if (slots := self._context.shared_slots) is None:
            call = await self._call_handler(turn, handler, timers)
        else:
            async with slot_of(slots, turn):
                call = await self._call_handler(turn, handler, timers)
        if call is None:
            return None
        if turn.no_room is not None:
            self._context.room.note(turn.no_room)
        self.stuck = call.is_stuck or isinstance(call.raised, HandlerAbandoned)
        if call.raised is not None:
            return await self._on_raised(turn, call.raised)
        if isinstance(call.outcome, Failed):
            return await outcome_of_failure(self._context, turn, call.outcome)
        return call.outcome

    async def _call_handler(
        self, turn: Turn, handler: Handler, timers: anyio.abc.TaskGroup | None
    ) -> HandlerCall | None:
        """Call the handler, and return when it has ended or should have; None if it is not to be started."""
        if turn.interruption is not None:  # while a hook ran, or while it waited for the slot
            return None
        if self._is_heard:
            waited = round(monotonic() - self._began_at, 3)
            self._emit(events.HandlerStarted(**self._watch.facts, seconds=waited))
        if timers is not None:
            timers.start_soon(self._interrupt_at_deadline)
        call = HandlerCall(turn, handler)
        await self._handlers.call(call.run, in_own_task=timers is not None)
        if not call.is_over:
            await call.end()
        if turn.is_writing:
            await end_writes(turn, self._lease)
        return call

    async def _on_raised(self, turn: Turn, raised: BaseException) -> Outcome | None:
        match raised:
            case Interrupted() | HandlerAbandoned():
                return None
            case CommandNotFound() | KeyboardInterrupt():  # these end the worker, in order
                self.error = raised
                return hand_back()
            case HandlerFailed():
                return Failed(raised.payload)
            case PrivateStepMissing():  # a later attempt would miss it as well
                return Failed(error_report(raised, turn.secrets))
        if (lost := lost_lease_in(raised)) is not None:
            self._watch.lost(str(lost))
            return None
        if turn.interruption is None:
            self._emit(events.HandlerRaised(**self._watch.facts, error=loggable(raised, turn.secrets)))
        return await outcome_of_error(self._context, turn, raised)

    # ------------------------------------------------------------ settle

    async def _settle(self, outcome: Outcome, stored: OutboxEntry | None) -> Settlement:
        context = self._context
        if isinstance(outcome, Suspended):
            try:
                settled = await suspend_turn(context.kernel, self._lease, outcome, context.kernel_time)
            except UNACCEPTABLE as refused:
                outcome = unacceptable_suspension(refused)
            else:
                if settled.resume_after_seconds == 0:
                    await self._resume(outcome)
                else:
                    self.resume_after_seconds = settled.resume_after_seconds
                return settled
        turn = self._watch.turn
        assert turn is not None  # only `context_fetch_error`, which the kernel accepts, has no turn
        if isinstance(outcome, Succeeded):  # after another outcome `on_settled` may want to end the worker
            self.prefetch = self._prefetch_claim()
        settled = await finish_turn(
            turn, self._lease, outcome, context.settling, stored=stored, prefetch=self.prefetch
        )
        self._closed = turn, settled
        if settled.done and context.may_forget:
            context.routes.forget(turn)
        return settled

    async def _resume(self, outcome: Suspended) -> None:
        """Resume the turn at once. If that fails, a `Resumer` of this agent does it later."""
        try:
            await self._context.kernel.turns.resume(self.ref, requested_by=self._claimed.agent)
        except (KernelRefused, KernelTrouble, AnswerInvalid) as failed:
            events.logger.warning("%s stays suspended for now (%s): %s", self.ref, outcome.reason, failed)

    # ------------------------------------------------------------ report

    def _report(
        self, outcome: Outcome | None, settlement: Settlement | None, *, redelivered: bool
    ) -> TurnReport:
        turn = self._watch.turn
        report = TurnReport(
            turn=self.ref,
            kind=turn.kind if turn else None,
            attempt=turn.attempt if turn else 1,
            outcome=settlement.outcome if settlement else outcome,
            settled=settlement is not None and settlement.done,
            interruption=self._watch.interruption,
            redelivered=redelivered,
            reason=settlement.reason if settlement else "the lease was lost",
            kept_at=str(settlement.kept_at) if settlement and settlement.kept_at else None,
            seconds=round(monotonic() - self._began_at, 3),
            error=self.error,
        )
        if not report.settled or self._is_heard:
            self._emit(self._event_of(report))
        if report.kept_at:
            self._emit(
                events.ResultKept(**self._watch.facts, path=report.kept_at, reason=report.reason or "")
            )
        return report

    def _event_of(self, report: TurnReport) -> Event:
        word = word_for(report.outcome) if report.outcome else None
        if report.settled and word is not None:
            return events.TurnSettled(
                **self._watch.facts,
                **failure_of(report.outcome),
                outcome=word,
                seconds=report.seconds,
                redelivered=report.redelivered,
            )
        return events.TurnGivenUp(**self._watch.facts, outcome=word, reason=report.reason or "")
