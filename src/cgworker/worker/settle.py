"""Settle a turn: send its outcome to the kernel, or say why that failed.

The order matters. The write of the result to the outbox begins no later than the first request, and is over
before anything that follows an answer other than "done": a repeat, a wait, a read, and giving up. The request
is repeated while the lease lasts; after a lost answer the turn is read back; only then may the outbox entry
be removed. So once a handler has returned, a crash makes it run again only until the kernel or the disk has
its result, whichever is first.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import anyio
from attrs import define, evolve, frozen

from cgworker.client import KernelClient
from cgworker.errors import (
    AnswerInvalid,
    CommonGroundError,
    InvalidRequest,
    InvariantError,
    KernelLacks,
    KernelRefused,
    KernelTrouble,
    NotFoundError,
    PayloadTooLarge,
)
from cgworker.events import logger
from cgworker.lease import Lease
from cgworker.outcome import SHUTDOWN_REASON, Closed, Failed, Suspended, word_for
from cgworker.retrying import Backoff, retry
from cgworker.turn import Turn
from cgworker.wire.absent import ABSENT
from cgworker.wire.converter import dumps, loads
from cgworker.wire.meta import Meta
from cgworker.wire.turns import Finish, Suspend, TurnSnapshot
from cgworker.worker.batching.calls import BatchedCall, PrefetchedClaim, settle
from cgworker.worker.kernel_time import KernelTime
from cgworker.worker.options import StoringPolicy
from cgworker.worker.outbox.keeper import ResultKeeper
from cgworker.worker.outbox.outbox import Outbox, OutboxEntry
from cgworker.worker.redaction import as_storable

_READ_BACK_SECONDS = 10.0
_REMOVE_SECONDS = 30.0
_UNANSWERED = (KernelTrouble, AnswerInvalid)

_TOO_LARGE = Failed({"error": "result_too_large", "message": "the final payload is too large for the kernel"})

UNACCEPTABLE: tuple[type[KernelRefused], ...] = (PayloadTooLarge, InvalidRequest, InvariantError)
"""Errors of the kernel that a repeat of the request cannot change."""


@define(kw_only=True, eq=False)
class Settlement:
    """The result of settling.

    Attributes:
        done: whether the kernel has the outcome.
        outcome: the outcome that was sent; a typed failure if the kernel could not accept the handler's.
        reason: why the outcome is not settled, or why it was replaced.
        kept_at: the outbox or dead-letter file of an undelivered result.
        delivered: the outbox entry that can be removed now.
        resume_after_seconds: after how long the worker has to resume the suspended turn; None if it need not.
    """

    done: bool
    outcome: Closed | Suspended
    reason: str | None = None
    kept_at: Path | None = None
    delivered: OutboxEntry | None = None
    resume_after_seconds: float | None = None


@frozen
class Settling:
    """What the attempts of a worker finish their turns with.

    Attributes:
        outbox: stores the outcomes.
        batch: batches the requests.
        max_payload_bytes: a payload whose JSON is larger becomes a dead letter, and the turn fails.
        storing: when an outcome is stored.
    """

    outbox: Outbox
    batch: BatchedCall
    max_payload_bytes: int
    storing: StoringPolicy


async def finish_turn(
    turn: Turn,
    lease: Lease,
    outcome: Closed,
    settling: Settling,
    *,
    stored: OutboxEntry | None = None,
    prefetch: PrefetchedClaim | None = None,
) -> Settlement:
    """Finish the turn with this outcome.

    Args:
        turn: the turn.
        lease: bounds the repeats of the request.
        outcome: how the turn is closed.
        settling: what it is finished with.
        stored: the entry of the outcome if the outbox holds it already.
        prefetch: a claim of the next turn to make in the same request.
    """
    outbox, storing = settling.outbox, settling.storing
    keeper = ResultKeeper(turn, outcome, outbox, stored=stored, delay_seconds=storing.delay_seconds)
    if storing.is_first:
        await keeper.secure()
    most = settling.max_payload_bytes
    if keeper.max_size > most and _is_larger(outcome, most):  # the bound spares writing it as JSON once more
        return await _fail_instead(turn, lease, _TOO_LARGE, await keeper.secure(), outbox)
    try:
        done = await _finish(turn, lease, outcome, keeper, prefetch, settling.batch)
    except UNACCEPTABLE as refused:
        report = _TOO_LARGE if isinstance(refused, PayloadTooLarge) else _unacceptable(refused)
        return await _fail_instead(turn, lease, report, await keeper.secure(), outbox)
    except KernelRefused as refused:
        kept = await _leave_or_dead_letter(turn, await keeper.secure(), outbox)
        return Settlement(done=False, outcome=outcome, reason=str(refused), kept_at=kept)
    if done:
        return Settlement(done=True, outcome=outcome, delivered=keeper.drop())
    kept = entry.path if (entry := await keeper.secure()) else None
    return Settlement(done=False, outcome=outcome, reason="no answer before the lease ended", kept_at=kept)


def _is_larger(outcome: Closed, max_payload_bytes: int) -> bool:
    return outcome.payload is not ABSENT and len(dumps(outcome.payload)) > max_payload_bytes


async def _leave_or_dead_letter(turn: Turn, entry: OutboxEntry | None, outbox: Outbox) -> Path | None:
    """Leave the result for the turn's next claim; make it a dead letter if there will be no such claim."""
    if entry is None:
        return None
    try:
        is_over = (await turn.kernel.turns.get(turn.ref)).state == "closed"
    except NotFoundError:
        is_over = True
    except CommonGroundError:
        is_over = False
    return outbox.dead_letter(entry) if is_over else entry.path


def _finish(
    turn: Turn,
    lease: Lease,
    outcome: Closed,
    keeper: ResultKeeper | None = None,
    prefetch: PrefetchedClaim | None = None,
    batch: BatchedCall | None = None,
) -> Awaitable[bool]:
    finish = Finish(outcome=word_for(outcome), final_payload=outcome.payload, final_record_role=outcome.role)
    return _send_until_answered(
        turn.kernel, lease, finish, lambda found: is_closed_with(found, outcome), keeper, prefetch, batch
    )


async def _fail_instead(
    turn: Turn, lease: Lease, report: Failed, entry: OutboxEntry | None, outbox: Outbox
) -> Settlement:
    """Close the turn with a typed failure, since the kernel cannot accept the result: a dead letter now."""
    kept = outbox.dead_letter(entry) if entry else None
    try:
        done = await _finish(turn, lease, report)
    except KernelRefused as refused:
        return Settlement(done=False, outcome=report, reason=str(refused), kept_at=kept)
    return Settlement(done=done, outcome=report, reason="the kernel cannot take the result", kept_at=kept)


def _unacceptable(refused: KernelRefused) -> Failed:
    return Failed({"error": "worker_final_invalid", "message": f"the kernel refused the result: {refused}"})


def unacceptable_suspension(refused: KernelRefused) -> Failed:
    """Return the failure of a turn whose suspension the kernel cannot accept (difference 17)."""
    message = f"the kernel refused the suspension: {refused}"
    return Failed({"error": "worker_suspend_invalid", "message": message})


def is_closed_with(snapshot: TurnSnapshot, outcome: Closed) -> bool:
    """Whether a turn is closed, and with this outcome."""
    if snapshot.state != "closed" or snapshot.outcome != word_for(outcome):
        return False
    if outcome.payload is ABSENT:
        return snapshot.final_cardbox_ref is None
    sent = loads(dumps(outcome.payload))
    return bool(snapshot.final_payload == sent and snapshot.final_record_role == outcome.role)


async def remove_remains(turn: Turn, settled: Settlement, outbox: Outbox, *, keep_private: bool) -> None:
    """Remove the private values and the stored result of a turn that was finished.

    Args:
        turn: the turn.
        settled: the result of finishing it.
        outbox: may hold its result.
        keep_private: keep its private values.
    """
    if settled.done and not keep_private:
        await _remove_private(turn)
    if settled.delivered is None:
        return
    try:
        await outbox.discard(settled.delivered)
    except RuntimeError as trouble:  # no thread could be started; `Outbox.tidy` will do it
        logger.warning("%s: what the kernel has could not be removed: %s", turn.ref, trouble)


async def _remove_private(turn: Turn) -> None:
    """Remove the private values of a turn. A store that fails or is slow affects nothing else."""
    with anyio.move_on_after(_REMOVE_SECONDS) as scope:
        try:
            await turn.remove_private()
        except Exception as trouble:  # the user's store may raise anything
            logger.warning("%s: its private values could not be removed: %s", turn.ref, trouble)
    if scope.cancelled_caught:
        logger.warning("%s: its private values were not removed in %g s", turn.ref, _REMOVE_SECONDS)


# ---------------------------------------------------------------- suspending a turn


async def suspend_turn(
    kernel: KernelClient, lease: Lease, outcome: Suspended, kernel_time: KernelTime | None = None
) -> Settlement:
    """Suspend the turn with this outcome's reason.

    If the turn is to go on after a while, the kernel is asked to see to that. At a kernel that cannot, the
    annotations say when (`not_before`), and resuming the turn is the caller's next step. A turn that is
    handed back is the caller's to resume at every kernel.

    Args:
        kernel: the kernel, with the agent's identity.
        lease: bounds the repeats of the request.
        outcome: the reason and note.
        kernel_time: the clock from which a delay counts at a kernel that keeps no time; without it no
            delay is asked for.

    Raises:
        PayloadTooLarge, InvalidRequest, InvariantError: the kernel cannot accept this suspension.
    """
    suspend, delay = _suspend_of(outcome), outcome.resume_after_seconds
    try:
        if kernel_time is None or delay is None or outcome.reason == SHUTDOWN_REASON:
            done = await _suspend(kernel, lease, suspend)
            return _suspended(done, outcome, delay)
        with suppress(KernelLacks):
            done = await _suspend(kernel, lease, evolve(suspend, resume_after_seconds=delay))
            return _suspended(done, outcome, None)
        with suppress(CommonGroundError):
            await kernel_time.learn(kernel)
        due_at = kernel_time.now() + timedelta(seconds=delay)
        annotations = {"not_before": due_at.isoformat(), **outcome.annotations}
        done = await _suspend(kernel, lease, evolve(suspend, meta=Meta(annotations=annotations)))
        return _suspended(done, outcome, delay)
    except UNACCEPTABLE:
        raise
    except KernelRefused as refused:
        return Settlement(done=False, outcome=outcome, reason=str(refused))


def _suspend_of(outcome: Suspended) -> Suspend:
    note = None if outcome.note is None else as_storable(outcome.note)
    meta = Meta(annotations=outcome.annotations) if outcome.annotations else None
    return Suspend(reason=as_storable(outcome.reason), note=note, meta=meta)


async def _suspend(kernel: KernelClient, lease: Lease, suspend: Suspend) -> bool:
    return await _send_until_answered(kernel, lease, suspend, lambda found: found.state == "suspended")


def _suspended(done: bool, outcome: Suspended, resume_after_seconds: float | None) -> Settlement:
    return Settlement(
        done=done,
        outcome=outcome,
        reason=None if done else "no answer before the lease ended",
        resume_after_seconds=resume_after_seconds if done else None,
    )


async def _send_until_answered(
    kernel: KernelClient,
    lease: Lease,
    request: Finish | Suspend,
    is_done: Callable[[TurnSnapshot], bool],
    keeper: ResultKeeper | None = None,
    prefetch: PrefetchedClaim | None = None,
    batch: BatchedCall | None = None,
) -> bool:
    """Repeat a request until it is answered or the lease ends; True if the kernel has the outcome then.

    Whatever comes instead of the answer "done", the result is secured first.

    Raises:
        KernelRefused: the kernel refused, and reading the turn back does not show the outcome.
    """
    backoff: Backoff | None = None
    max_size = math.inf if keeper is None else keeper.max_size
    while True:
        try:
            await settle(kernel, lease.claim, request, prefetch, max_size=max_size, batch=batch)
            return True
        except BaseException as trouble:  # also a cancellation
            if keeper is not None:
                await keeper.secure()
            if isinstance(trouble, KernelRefused) and await _read_back(kernel, lease, is_done):
                return True
            if not isinstance(trouble, _UNANSWERED):
                raise
            backoff = backoff or Backoff(0.1, 5.0)
            seconds = lease.bounded(backoff.next_seconds(trouble))
        if lease.seconds_left <= seconds:
            return await _read_back(kernel, lease, is_done)
        await anyio.sleep(seconds)


async def _read_back(kernel: KernelClient, lease: Lease, is_done: Callable[[TurnSnapshot], bool]) -> bool:
    """Whether an earlier request, whose answer was lost, was carried out. Reading needs no lease."""
    snapshot: TurnSnapshot | None = None
    with anyio.move_on_after(_READ_BACK_SECONDS), suppress(CommonGroundError):
        snapshot = await retry(
            lambda: kernel.turns.get(lease.claim.turn),
            on=_UNANSWERED,
            backoff=Backoff(0.1, 2.0),
            wait=lambda _, seconds: min(seconds, _READ_BACK_SECONDS / 3),
        )
    return snapshot is not None and is_done(snapshot)
