"""Load a claimed turn: its lease, its context and the number of the attempt."""

from __future__ import annotations

from attrs import define

from cgworker.durable.write_behind import StartSoon
from cgworker.lease import RENEW_FRACTION, Lease, call_until_lease_ends
from cgworker.turn import Turn
from cgworker.wire.claims import ClaimedTurn
from cgworker.wire.records import TurnContext
from cgworker.wire.refs import TurnRef
from cgworker.worker.context import RunContext

_CLAIM_PAGE_SIZE = 100  # the most records that a claim carries (difference 8)


@define(eq=False)
class FetchedClaim:
    """A claim that was made.

    Attributes:
        claimed: the claim and the turn.
        asked_at: when its request was about to be sent, on `lease.monotonic`.
        answered_at: when its answer had arrived, on `lease.monotonic`.
    """

    claimed: ClaimedTurn
    asked_at: float
    answered_at: float


def lease_for(fetched: FetchedClaim) -> Lease:
    """Return the lease of a claim; its length is unknown after a long poll, until the first renewal.

    The lease began at some moment between the request and the answer. Counting from the request is safe, and
    accurate enough after a short wait. After a long wait the lease would seem over though it has just begun.
    """
    claimed, asked_at, answered_at = fetched.claimed, fetched.asked_at, fetched.answered_at
    length = claimed.lease_seconds
    if isinstance(length, float) and answered_at < asked_at + length * RENEW_FRACTION:
        return Lease(claimed.claim, asked_at, length)
    return Lease(claimed.claim, answered_at)


async def load_turn(context: RunContext, claimed: ClaimedTurn, lease: Lease, start_soon: StartSoon) -> Turn:
    """Load the turn of a claim, and ask the kernel for what the claim does not carry.

    Args:
        context: what the attempts of the worker share.
        claimed: the claim.
        lease: its lease.
        start_soon: starts a task that outlives the handler.

    Raises:
        LeaseLost: the kernel did not answer before the lease ended.
        KernelRefused, AnswerInvalid: the context cannot be read.
    """
    carried, attempt, page_size = claimed.context, claimed.attempt, context.options.context_page_size
    if isinstance(carried, TurnContext):
        turn_context, has_more = carried, len(carried.semantic_items) >= _CLAIM_PAGE_SIZE
    else:
        first_size = min(page_size, _CLAIM_PAGE_SIZE)
        turn_context, has_more = await call_until_lease_ends(
            lambda: context.kernel.turns.context_page(claimed.turn, limit=first_size), lease
        )
    if not isinstance(attempt, int):
        attempt = await call_until_lease_ends(lambda: _count_attempts(context, claimed.turn), lease)
    return Turn(
        kernel=context.kernel,
        lease=lease,
        context=turn_context,
        attempt=attempt,
        page_size=page_size,
        more_records=has_more,
        private=context.private_settings,
        start_soon=start_soon,
        now=lambda: call_until_lease_ends(lambda: context.kernel_time.learned(context.kernel), lease),
    )


async def _count_attempts(context: RunContext, turn: TurnRef) -> int:
    """Return 1 + the claims that expired since the last suspension, by the turn's feed (difference 26)."""
    expired = 0
    async for event in context.kernel.turns.events(turn):
        if event.event_type == "turn.suspended":
            expired = 0
        elif event.event_type == "turn.claim_reconciled":
            expired += 1
    return 1 + expired
