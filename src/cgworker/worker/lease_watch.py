"""Watch the lease of one attempt: renew it, and interrupt the handler when the work must end."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio

from cgworker import events
from cgworker.errors import CommonGroundError, LeaseLost
from cgworker.events import Event, emit
from cgworker.lease import Interruption, Lease, Reason, monotonic
from cgworker.renewal import RenewalResult
from cgworker.turn import Turn
from cgworker.wire.absent import ABSENT
from cgworker.wire.claims import ClaimedTurn
from cgworker.wire.refs import ClaimToken
from cgworker.worker.batching.calls import renew
from cgworker.worker.context import RunContext
from cgworker.worker.lineage import parent_is_closed


class LeaseWatch:
    """The lease of one claim, and the interruption of the attempt that works under it.

    The renewal scheduler calls it as `renewal.Renewable`. It holds no reference to its attempt: a reference
    cycle for each turn would keep the garbage collector busy.

    Args:
        context: what the attempts of the worker share.
        claimed: the claimed turn.
        lease: the lease of that claim.

    Attributes:
        turn: the turn, once it has been loaded.
    """

    def __init__(self, context: RunContext, claimed: ClaimedTurn, lease: Lease) -> None:
        self._context = context
        self._claimed = claimed
        self._lease = lease
        self._first_renewal = anyio.Event() if lease.length_seconds is None else None
        self._is_told_of_stops = True
        self._pending: Interruption | None = None
        self.turn: Turn | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What every event of the attempt carries: the turn, the agent and the attempt's number."""
        attempt = self.turn.attempt if self.turn else 1
        return {"turn": self._claimed.turn, "agent": self._claimed.agent, "attempt": attempt}

    @property
    def interruption(self) -> Interruption | None:
        """Why the attempt is being ended; None if it is not."""
        return self.turn.interruption if self.turn else self._pending

    def set_turn(self, turn: Turn) -> None:
        """Set the turn that was loaded. An interruption that came before is passed on to it."""
        if (pending := self._pending) is not None:
            turn.interrupt(pending.reason, pending.note, grace_seconds=pending.grace_seconds)
        self.turn = turn

    def interrupt(
        self, reason: Reason, note: str | None = None, *, grace_seconds: float | None = None
    ) -> None:
        """End the handler, or keep it from being started.

        Args:
            reason: why.
            note: why, for people.
            grace_seconds: how long the handler has to end by itself; by default `options.interrupt_seconds`.
        """
        grace = self._context.options.interrupt_seconds if grace_seconds is None else grace_seconds
        if self.turn is not None:
            self.turn.interrupt(reason, note, grace_seconds=grace)
        elif self._pending is None or reason is Reason.LEASE_LOST:
            self._pending = Interruption(reason, note, grace)
            self._confirm()

    def lost(self, reason: str) -> None:
        """Interrupt the attempt because its lease is lost; only the first call counts."""
        if self._has_lost_lease():
            return
        self._emit(events.LeaseEnded(**self.facts, reason=reason))
        self.interrupt(Reason.LEASE_LOST, reason, grace_seconds=self._lease.margin_seconds)

    def lose_if_ended(self) -> None:
        """Check the clock after the event loop was blocked or the machine slept: the lease may have ended."""
        if monotonic() >= self._lease.fence_at:
            self.lost("it ended while this process stood still")

    async def confirm_lease(self) -> None:
        """Wait for the first renewal where only a renewal tells how long the lease lasts.

        That is so after a long poll, and at a kernel whose claims do not say it.

        Raises:
            LeaseLost: the lease was lost before the work began.
        """
        if self._first_renewal is None:
            return
        await self._first_renewal.wait()
        if self._has_lost_lease():
            raise LeaseLost("it was lost before the work began")

    async def follow_parent(self) -> None:
        """Interrupt the attempt if the parent turn is closed and `options.follow_parent` is set."""
        if not self._context.options.follow_parent or self.turn is None:
            return
        if await parent_is_closed(self._context.renewing, self.turn):
            self.interrupt(Reason.PARENT_CLOSED, "its parent turn is closed")

    # ------------------------------------------------------------ called by the renewal scheduler

    def next_at(self, lease: Lease, held_count: int) -> float:
        """Return when to renew the lease, at the same instants as others that are held."""
        options = self._context.options
        return lease.renew_at(options.renew_fraction, options.renew_seconds, in_step=held_count)

    def stop(self) -> None:
        """Interrupt the attempt because a stop of the turn was requested."""
        self.interrupt(Reason.STOP)

    async def renew(self, claim: ClaimToken) -> RenewalResult:
        """Renew the claim at the kernel, in one request with others."""
        renewal = await renew(self._context.renewing, claim)
        self._context.kernel_time.note(renewal.server_time)
        self._is_told_of_stops = renewal.stop_requested is not ABSENT
        return RenewalResult(renewal.server_time, renewal.expires_at, renewal.stop_requested is True)

    async def check_further(self) -> None:
        """Check for what the renewal did not report. If a check fails, the next renewal repeats it."""
        if not self._is_told_of_stops:  # the reference's kernel reports a stop only in the turn
            with suppress(CommonGroundError):
                if (await self._context.renewing.turns.get(self._claimed.turn)).stop_requested:
                    self.interrupt(Reason.STOP)
        await self.follow_parent()

    def renewed(self, seconds_to_next: float) -> None:
        """Note a renewal."""
        self._confirm()
        left, to_next = round(self._lease.seconds_left, 1), round(seconds_to_next, 1)
        self._emit(events.LeaseRenewed(**self.facts, seconds_left=left, renewal_seconds=to_next))

    def failed(self, error: CommonGroundError) -> None:
        """Note a renewal that failed and will be repeated."""
        left = round(self._lease.seconds_left, 1)
        self._emit(events.RenewalFailed(**self.facts, error=str(error), seconds_left=left))

    def _has_lost_lease(self) -> bool:
        interruption = self.interruption
        return interruption is not None and interruption.reason is Reason.LEASE_LOST

    def _confirm(self) -> None:
        if self._first_renewal is not None:
            self._first_renewal.set()

    def _emit(self, event: Event) -> None:
        emit(self._context.listener, event)
