"""One attempt at one turn: from the claim to the report, and nothing that goes wrong on the way gets out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import anyio.abc

from cgworker import events
from cgworker.errors import (
    AnswerInvalid,
    CommandNotFound,
    CommonGroundError,
    HandlerFailed,
    KernelRefused,
    KernelTrouble,
    LeaseLost,
)
from cgworker.events import Event, emit
from cgworker.handlers import Handler
from cgworker.handlers.function import HandlerAbandoned
from cgworker.lease import Interrupted, Interruption, Reason, monotonic
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
from cgworker.renewal import RenewalHooks, RenewalResult, RenewalScheduler
from cgworker.turn import Turn
from cgworker.wire.converter import ABSENT, Absent
from cgworker.wire.refs import ClaimToken, TurnRef
from cgworker.worker.batching.calls import PrefetchedClaim, renew
from cgworker.worker.claimed import FetchedClaim, lease_for, load_turn
from cgworker.worker.context import RunContext, TurnReport, tell
from cgworker.worker.handler_call import HandlerCall, called_with, one_slot_of
from cgworker.worker.interruption import lost_lease_in, outcome_after
from cgworker.worker.lineage import parent_is_closed, stop_children
from cgworker.worker.outbox.outbox import OutboxEntry
from cgworker.worker.redaction import error_report, failure_of, loggable
from cgworker.worker.routing import wrap
from cgworker.worker.settle import (
    UNACCEPTABLE,
    Settlement,
    finish_turn,
    suspend_turn,
    unacceptable_suspension,
)


class Attempt:
    """A claim being worked. `run()` it once; `interrupt()` it any time.

    Args:
        place: what it shares with others.
        found: the claim.
        renewals: keeps its lease.
        tasks: where its handler runs.
        claim_ahead: asked when it is about to settle, whether to claim the next turn in the same request.
    """

    def __init__(
        self,
        place: RunContext,
        found: FetchedClaim,
        renewals: RenewalScheduler,
        tasks: anyio.abc.TaskGroup,
        claim_ahead: Callable[[], PrefetchedClaim | None] = lambda: None,
    ) -> None:
        self._place = place
        self._renewals = renewals
        self._tasks = tasks
        self._prefetch_claim = claim_ahead
        self._claimed = found.claimed
        if not isinstance(found.claimed.server_time, Absent):
            place.kernel_time.note(found.claimed.server_time)
        self._began_at = found.answered_at
        self._lease = lease_for(found.claimed, found.asked_at)
        self._first_renewal = anyio.Event() if self._lease.length_seconds is None else None
        self._is_told_of_stops = True
        self._attempt = 1
        self._turn: Turn | None = None
        self._pending: Interruption | None = None
        self._delivered: OutboxEntry | None = None
        self.error: BaseException | None = None
        self.stuck: bool = False
        self.ahead: PrefetchedClaim | None = None

    @property
    def ref(self) -> TurnRef:
        """Which turn."""
        return self._claimed.turn

    def interrupt(
        self, reason: Reason, note: str | None = None, *, grace_seconds: float | None = None
    ) -> None:
        """End the handler, or keep it from being started."""
        grace = self._place.options.interrupt_seconds if grace_seconds is None else grace_seconds
        if self._turn is not None:
            self._turn.interrupt(reason, note, grace_seconds=grace)
        elif self._pending is None or reason is Reason.LEASE_LOST:
            self._pending = Interruption(reason, note, grace)
            self._go_on()

    def give_up_if_over(self) -> None:
        """The event loop or the whole machine stood still: the lease may have ended meanwhile."""
        if monotonic() >= self._lease.fence_at:
            self._lose("it ended while this process stood still")

    async def run(self) -> TurnReport:
        """Work the turn and settle it."""
        stored: OutboxEntry | None = None
        outcome: Outcome | None = None
        settlement: Settlement | None = None
        keeper = self._make_keeper()  # no attribute: a ring of objects for each turn keeps the collector busy
        with self._renewals.keeping(self._lease, keeper):
            try:
                await self._confirm_lease()
                self._turn = turn = await self._open(keeper)
                await self._follow_parent()
                stored = self._place.outbox.find(turn, since=self._began_at)
                outcome = stored.outcome if stored else await self._decide(turn)
                if isinstance(outcome, Stopped) and self._place.options.stop_children:
                    await stop_children(self._place.kernel, turn)
            except LeaseLost as lost:
                self._lose(str(lost))
            except (KernelRefused, AnswerInvalid) as unreadable:
                outcome = Suspended("context_fetch_error", str(unreadable))
            if outcome is not None:
                settlement = await self._settle(outcome, stored)
        return self._report(outcome, settlement, redelivered=stored is not None)

    async def discard_delivered(self) -> None:
        """Remove from the outbox what the kernel has: after the end, as nobody should wait for that."""
        if self._delivered is None:
            return
        try:
            await self._place.outbox.discard(self._delivered)
        except RuntimeError as trouble:  # there is no thread to be had; who tidies will do it
            events.logger.warning("%s: what the kernel has could not be removed: %s", self.ref, trouble)

    # ------------------------------------------------------------ the lease

    def _make_keeper(self) -> RenewalHooks:
        options = self._place.options
        return RenewalHooks(
            renew=self._renew,
            lost=self._lose,
            stop=lambda: self.interrupt(Reason.STOP),
            look_around=self._check_stop_and_parent,
            renewed=self._note_renewal,
            failed=self._note_failed_renewal,
            fraction=options.renew_fraction,
            most_seconds=options.renew_seconds,
            in_step=True,
        )

    async def _renew(self, claim: ClaimToken) -> RenewalResult:
        renewal = await renew(self._place.renewing, claim)
        self._place.kernel_time.note(renewal.server_time)
        self._is_told_of_stops = renewal.stop_requested is not ABSENT
        return RenewalResult(renewal.server_time, renewal.expires_at, renewal.stop_requested is True)

    async def _check_stop_and_parent(self) -> None:
        """What a renewal did not tell; where that cannot be found out, the next one looks again."""
        if not self._is_told_of_stops:  # the reference's kernel says it only in the turn
            with suppress(CommonGroundError):
                if (await self._place.renewing.turns.get(self.ref)).stop_requested:
                    self.interrupt(Reason.STOP)
        await self._follow_parent()

    async def _follow_parent(self) -> None:
        if not self._place.options.follow_parent or self._turn is None:
            return
        if await parent_is_closed(self._place.renewing, self._turn):
            self.interrupt(Reason.PARENT_CLOSED, "its parent turn is closed")

    def _lose(self, reason: str) -> None:
        if self._is_interrupted_by(Reason.LEASE_LOST):
            return
        self._emit(events.LeaseLost(**self._facts(), reason=reason))
        self.interrupt(Reason.LEASE_LOST, reason, grace_seconds=self._lease.margin_seconds)

    def _is_interrupted_by(self, reason: Reason) -> bool:
        interruption = self._turn.interruption if self._turn else self._pending
        return interruption is not None and interruption.reason is reason

    def _note_renewal(self, seconds_to_next: float) -> None:
        self._go_on()
        left, to_next = round(self._lease.seconds_left, 1), round(seconds_to_next, 1)
        self._emit(events.LeaseRenewed(**self._facts(), seconds_left=left, renewal_seconds=to_next))

    def _note_failed_renewal(self, error: CommonGroundError) -> None:
        left = round(self._lease.seconds_left, 1)
        self._emit(events.RenewalFailed(**self._facts(), error=str(error), seconds_left=left))

    def _go_on(self) -> None:
        if self._first_renewal is not None:
            self._first_renewal.set()

    async def _confirm_lease(self) -> None:
        """After a long wait, or at a kernel that does not tell, only a renewal says how long it lasts."""
        if self._first_renewal is not None:
            await self._first_renewal.wait()
        if self._is_interrupted_by(Reason.LEASE_LOST):
            raise LeaseLost("it was lost before the work began")

    # ------------------------------------------------------------ what the turn is

    async def _open(self, keeper: RenewalHooks) -> Turn:
        turn = await load_turn(self._place, self._claimed, self._lease)
        self._attempt = turn.attempt
        if (pending := self._pending) is not None:
            turn.interrupt(pending.reason, pending.note, grace_seconds=pending.grace_seconds)
        to_next = round(keeper.seconds_to_next(self._lease), 1)
        self._emit(events.TurnClaimed(**self._facts(), kind=turn.kind, renewal_seconds=to_next))
        return turn

    # ------------------------------------------------------------ what is decided

    async def _decide(self, turn: Turn) -> Outcome | None:
        if turn.snapshot.stop_requested:
            return Stopped({"status": "stopped"})
        if self._attempt > self._place.options.max_attempts:
            return Failed({"error": "attempts_exhausted", "attempts": self._attempt - 1})
        handler = self._place.routes.find(turn.kind)
        if handler is None:
            return Suspended(NO_HANDLER_REASON, f"no handler for {turn.kind}")
        await tell(self._place.on_claimed, turn)
        decided = await self._run_within_its_limit(turn, handler)
        if turn.interruption is None:
            return decided
        self._emit(events.TurnInterrupted(**self._facts(), reason=turn.interruption.reason))
        await tell(self._place.on_interrupted, turn, turn.interruption)
        return outcome_after(turn.interruption, decided, self._place.options.time_limit_seconds)

    async def _run_within_its_limit(self, turn: Turn, handler: Handler) -> Outcome | None:
        if (limit := self._place.options.time_limit_seconds) is None:
            return await self._run_handler(turn, handler)
        async with anyio.create_task_group() as beside:

            def count_down() -> None:
                beside.start_soon(self._interrupt_at_deadline, limit)

            decided = await self._run_handler(turn, handler, count_down)
            beside.cancel_scope.cancel()
        return decided

    async def _interrupt_at_deadline(self, limit_seconds: float) -> None:
        await anyio.sleep(limit_seconds)
        self.interrupt(Reason.DEADLINE, f"after {limit_seconds:g} s")

    async def _run_handler(
        self, turn: Turn, handler: Handler, on_start: Callable[[], None] = lambda: None
    ) -> Outcome | None:
        """The handler's outcome; None if it was cancelled, was never started, is stuck, or cannot say."""
        with events.logged_as(**self._facts()):
            async with one_slot_of(self._place.shared_slots, turn):
                if turn.interruption is not None:  # while a hook ran, or it waited for the slot
                    return None
                self._note_start()
                on_start()
                call = HandlerCall(
                    turn, called_with(handler, partial(wrap, middleware=self._place.middleware))
                )
                self._tasks.start_soon(call.run)
                await call.end()
        if turn.no_room is not None:
            self._place.room.note(turn.no_room)
        self.stuck = call.is_stuck or isinstance(call.raised, HandlerAbandoned)
        return call.outcome if call.raised is None else self._on_raised(turn, call.raised)

    def _on_raised(self, turn: Turn, raised: BaseException) -> Outcome | None:
        match raised:
            case Interrupted() | HandlerAbandoned():
                return None
            case CommandNotFound() | KeyboardInterrupt():  # they end the worker, in order
                self.error = raised
                return hand_back()
            case HandlerFailed():
                return Failed(raised.payload)
        if (lost := lost_lease_in(raised)) is not None:
            self._lose(str(lost))
            return None
        return self._on_error(turn, raised)

    def _note_start(self) -> None:
        seconds = round(monotonic() - self._began_at, 3)
        self._emit(events.HandlerStarted(**self._facts(), seconds=seconds))

    def _on_error(self, turn: Turn, raised: BaseException) -> Outcome:
        if turn.interruption is None:
            self._emit(events.HandlerRaised(**self._facts(), error=loggable(raised, turn.secrets)))
        if turn.suspension is not None:  # it stands, also where the handler made an error of what unwound it
            return turn.suspension
        report = error_report(raised, turn.secrets)
        if self._place.options.on_error == "suspend":
            return Suspended("handler_error", f"{report['type']}: {report['message']}")
        return Failed(report)

    # ------------------------------------------------------------ making it true

    async def _settle(self, outcome: Outcome, stored: OutboxEntry | None) -> Settlement:
        place = self._place
        if isinstance(outcome, Suspended):
            try:
                settled = await suspend_turn(place.kernel, self._lease, outcome, place.kernel_time)
            except UNACCEPTABLE as refused:
                outcome = unacceptable_suspension(refused)
            else:
                if settled.done and outcome.resume_after_seconds == 0:
                    await self._resume(outcome)
                return settled
        assert self._turn is not None  # only `context_fetch_error`, which the kernel takes, comes without one
        if isinstance(outcome, Succeeded):  # of other ends somebody may think that they are reason to stop
            self.ahead = self._prefetch_claim()
        settled = await finish_turn(
            self._turn,
            self._lease,
            outcome,
            outbox=place.outbox,
            stored=stored,
            most_payload_bytes=place.options.most_payload_bytes,
            ahead=self.ahead,
        )
        self._delivered = settled.delivered
        if settled.done:
            place.routes.forget(self._turn)
        return settled

    async def _resume(self, outcome: Suspended) -> None:
        """Queue it again at once. If that fails, whoever looks after this agent's turns does it later."""
        try:
            await self._place.kernel.turns.resume(self.ref, requested_by=self._claimed.agent)
        except (KernelRefused, KernelTrouble, AnswerInvalid) as failed:
            events.logger.warning("%s stays suspended for now (%s): %s", self.ref, outcome.reason, failed)

    # ------------------------------------------------------------ saying so

    def _report(
        self, outcome: Outcome | None, settlement: Settlement | None, *, redelivered: bool
    ) -> TurnReport:
        turn = self._turn
        report = TurnReport(
            turn=self.ref,
            kind=turn.kind if turn else None,
            attempt=self._attempt,
            outcome=settlement.outcome if settlement else outcome,
            settled=settlement is not None and settlement.done,
            interruption=turn.interruption if turn else self._pending,
            redelivered=redelivered,
            reason=settlement.reason if settlement else "the lease was lost",
            kept_at=str(settlement.kept_at) if settlement and settlement.kept_at else None,
            seconds=round(monotonic() - self._began_at, 3),
            error=self.error,
        )
        self._emit(self._event_of(report))
        if report.kept_at:
            self._emit(events.ResultKept(**self._facts(), path=report.kept_at, reason=report.reason or ""))
        return report

    def _event_of(self, report: TurnReport) -> Event:
        word = word_for(report.outcome) if report.outcome else None
        if report.settled and word is not None:
            return events.TurnSettled(
                **self._facts(),
                **failure_of(report.outcome),
                outcome=word,
                seconds=report.seconds,
                redelivered=report.redelivered,
            )
        return events.TurnGivenUp(**self._facts(), outcome=word, reason=report.reason or "")

    def _facts(self) -> dict[str, Any]:
        return {"turn": self.ref, "agent": self._claimed.agent, "attempt": self._attempt}

    def _emit(self, event: Event) -> None:
        emit(self._place.listener, event)
