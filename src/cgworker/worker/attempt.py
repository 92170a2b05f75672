"""One attempt at one turn, from the claim to the report. Errors end up in the report and are not raised."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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
from cgworker.events import Event, emit, is_heard
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
from cgworker.renewal import RenewalHooks, RenewalScheduler
from cgworker.turn import Turn
from cgworker.wire.absent import Absent
from cgworker.wire.refs import TurnRef
from cgworker.worker.batching.calls import PrefetchedClaim
from cgworker.worker.claimed import FetchedClaim, lease_for, load_turn
from cgworker.worker.context import RunContext, call_hook
from cgworker.worker.handler_call import HandlerCall, acquire_slot, end_writes
from cgworker.worker.handler_tasks import HandlerTasks
from cgworker.worker.interruption import lost_lease_in, outcome_after
from cgworker.worker.lease_watch import LeaseWatch
from cgworker.worker.lineage import stop_children
from cgworker.worker.outbox.outbox import OutboxEntry
from cgworker.worker.redaction import error_report, failure_of, loggable
from cgworker.worker.retries import Retries
from cgworker.worker.retry_or_fail import report_of_command, retry_or_fail
from cgworker.worker.settle import (
    UNACCEPTABLE,
    Settlement,
    finish_turn,
    leaves_something,
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
            context.kernel_time.note(fetched.claimed.server_time)
        self._began_at = fetched.answered_at
        self._lease = lease_for(fetched.claimed, fetched.asked_at)
        self._watch = LeaseWatch(context, fetched.claimed, self._lease)
        self._facts = self._watch.facts
        self._emit: Callable[[Event], None] = partial(emit, context.listener)
        self._is_heard: Callable[[type[Event]], bool] = partial(is_heard, context.listener)
        self._closed: tuple[Turn, Settlement] | None = None
        self.error: BaseException | None = None
        self.stuck: bool = False
        self.prefetch: PrefetchedClaim | None = None
        self.resume_after_seconds: float | None = None

    @property
    def ref(self) -> TurnRef:
        """The turn it works."""
        return self._claimed.turn

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
        hooks = self._watch.hooks(self._renewals.held)
        with self._renewals.keeping(self._lease, hooks):
            try:
                await self._watch.confirm_lease()
                turn = await self._open(hooks)
                await self._watch.follow_parent()
                stored = self._context.outbox.find(turn, since=self._began_at)
                outcome = stored.outcome if stored else await self._decide(turn)
                if isinstance(outcome, Stopped) and self._context.options.stop_children:
                    await stop_children(self._context.kernel, turn)
            except LeaseLost as lost:
                self._watch.lose(str(lost))
            except (KernelRefused, AnswerInvalid) as unreadable:
                outcome = Suspended("context_fetch_error", str(unreadable))
            if outcome is not None:
                settlement = await self._settle(outcome, stored)
        return self._report(outcome, settlement, redelivered=stored is not None)

    @property
    def has_to_clean_up(self) -> bool:
        """Whether a closed turn may have left something behind that `clean_up` removes."""
        return self._closed is not None and leaves_something(*self._closed)

    async def clean_up(self) -> None:
        """Remove what a closed turn leaves behind: after the end, so that nothing waits for the disk."""
        if self._closed is not None:
            keep_private = self._context.options.keep_private
            await remove_remains(*self._closed, self._context.outbox, keep_private=keep_private)

    # ------------------------------------------------------------ load the turn

    async def _open(self, hooks: RenewalHooks) -> Turn:
        turn = await load_turn(self._context, self._claimed, self._lease, self._handlers.start_soon)
        self._watch.set_turn(turn)
        if self._is_heard(events.TurnClaimed):
            to_next = round(hooks.seconds_to_next(self._lease), 1)
            self._emit(events.TurnClaimed(**self._facts, kind=turn.kind, renewal_seconds=to_next))
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
        await call_hook(self._context.on_claimed, turn)
        decided = await self._run_within_its_limit(turn, handler)
        if turn.interruption is None:
            return decided
        self._emit(events.TurnInterrupted(**self._facts, reason=turn.interruption.reason))
        await call_hook(self._context.on_interrupted, turn, turn.interruption)
        return outcome_after(turn.interruption, decided, self._context.options.time_limit_seconds)

    async def _run_within_its_limit(self, turn: Turn, handler: Handler) -> Outcome | None:
        if self._context.options.time_limit_seconds is None:
            return await self._run_handler(turn, handler)
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
        with events.LoggedAs(**self._facts):
            async with acquire_slot(self._context.shared_slots, turn):
                if turn.interruption is not None:  # while a hook ran, or while it waited for the slot
                    return None
                if self._is_heard(events.HandlerStarted):
                    waited = round(monotonic() - self._began_at, 3)
                    self._emit(events.HandlerStarted(**self._facts, seconds=waited))
                if timers is not None:
                    timers.start_soon(self._interrupt_at_deadline)
                call = HandlerCall(turn, handler)
                await self._handlers.call(call.run, in_own_task=timers is not None)
                await call.end()
                if not turn.writes.is_idle:
                    await end_writes(turn, self._lease)
        if turn.no_room is not None:
            self._context.room.note(turn.no_room)
        self.stuck = call.is_stuck or isinstance(call.raised, HandlerAbandoned)
        if call.raised is not None:
            return await self._on_raised(turn, call.raised)
        if isinstance(call.outcome, Failed) and (retries := self._retries(turn)):
            report = report_of_command(self._context.routes.find(turn.kind), call.outcome)
            if report is not None:
                return await retry_or_fail(turn, retries, report)
        return call.outcome

    def _retries(self, turn: Turn) -> Retries | None:
        """Return the retry policy of the handler; None without one, and while the turn is interrupted."""
        if turn.interruption is not None:
            return None
        return self._context.routes.retries_for(turn.kind) or self._context.options.retries

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
            self._watch.lose(str(lost))
            return None
        return await self._on_error(turn, raised)

    async def _on_error(self, turn: Turn, raised: BaseException) -> Outcome:
        if turn.interruption is None:
            self._emit(events.HandlerRaised(**self._facts, error=loggable(raised, turn.secrets)))
        if turn.suspension is not None:  # it counts even if the handler raised something else afterwards
            return turn.suspension
        report = error_report(raised, turn.secrets)
        if (retries := self._retries(turn)) is not None:
            return await retry_or_fail(turn, retries, report, raised)
        if self._context.options.on_error == "suspend":
            return Suspended("handler_error", f"{report['type']}: {report['message']}")
        return Failed(report)

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
            turn,
            self._lease,
            outcome,
            outbox=context.outbox,
            stored=stored,
            max_payload_bytes=context.options.max_payload_bytes,
            prefetch=self.prefetch,
            storing=context.options.storing,
        )
        self._closed = turn, settled
        if settled.done:
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
        if not report.settled or self._is_heard(events.TurnSettled):
            self._emit(self._event_of(report))
        if report.kept_at:
            self._emit(events.ResultKept(**self._facts, path=report.kept_at, reason=report.reason or ""))
        return report

    def _event_of(self, report: TurnReport) -> Event:
        word = word_for(report.outcome) if report.outcome else None
        if report.settled and word is not None:
            return events.TurnSettled(
                **self._facts,
                **failure_of(report.outcome),
                outcome=word,
                seconds=report.seconds,
                redelivered=report.redelivered,
            )
        return events.TurnGivenUp(**self._facts, outcome=word, reason=report.reason or "")
