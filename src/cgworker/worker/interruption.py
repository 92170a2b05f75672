"""Turn an early end of a handler into an outcome: a suspension from within, or an interruption."""

from __future__ import annotations

import math
import threading

import anyio

from cgworker.errors import LeaseLost
from cgworker.handlers import Handler
from cgworker.lease import Interrupted, Interruption, Reason
from cgworker.outcome import Failed, Outcome, Stopped, Succeeded, Suspended, Suspending, hand_back
from cgworker.turn import Turn
from cgworker.wire.absent import ABSENT


def catching_suspension(handler: Handler) -> Handler:
    """Wrap a handler, or middleware around one, so that `Suspending` becomes its outcome.

    `Suspending` may also come in the exception group of a task group.
    """

    async def call(turn: Turn) -> Outcome:
        try:
            return await handler(turn)
        except (Suspending, BaseExceptionGroup) as raised:
            return suspension_in(raised, turn)

    return call


def suspension_in(raised: Suspending | BaseExceptionGroup[BaseException], turn: Turn) -> Suspended:
    """Return the suspension that has unwound a handler.

    Args:
        raised: what unwound it.
        turn: its turn.

    Raises:
        BaseExceptionGroup: what else the handler has raised.
        Interrupted: the handler was being ended.
    """
    if isinstance(raised, Suspending):
        return turn.suspension or raised.outcome
    if (rest := raised.split((Suspending, Interrupted))[1]) is not None:
        raise rest from None
    if (interruption := turn.interruption) is not None:
        raise Interrupted(interruption) from None
    assert turn.suspension is not None  # nothing else was in the group
    return turn.suspension


def is_the_workers_own(raised: BaseException) -> bool:
    """Whether an exception out of user code is not that code's own: the worker's cancellation, or Ctrl-C."""
    if isinstance(raised, KeyboardInterrupt):
        return threading.current_thread() is threading.main_thread()
    is_cancellation = isinstance(raised, anyio.get_cancelled_exc_class())
    return is_cancellation and anyio.current_effective_deadline() == -math.inf


def lost_lease_in(raised: BaseException) -> LeaseLost | None:
    """Find a `LeaseLost` in an exception: itself, in its group, its causes or its contexts."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [raised]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        if isinstance(each, LeaseLost):
            return each
        seen.add(id(each))
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
    return None


def outcome_after(
    interruption: Interruption, decided: Outcome | None, time_limit_seconds: float | None
) -> Outcome | None:
    """Return what the outcome of an interrupted handler becomes (differences 20 and 21).

    Args:
        interruption: why the handler was ended.
        decided: the handler's own outcome, if it had one.
        time_limit_seconds: the time limit, for the report.

    Returns:
        The outcome to settle; None if the lease was lost before there was a result.
    """
    has_result = isinstance(decided, Succeeded) and decided.payload is not ABSENT
    match interruption.reason:
        case Reason.LEASE_LOST:
            return decided if has_result else None
        case Reason.STOP | Reason.PARENT_CLOSED:
            if isinstance(decided, Succeeded | Stopped) and decided.payload is not ABSENT:
                return Stopped(decided.payload)
            return Stopped({"status": "stopped"})
        case Reason.DEADLINE:
            return Failed({"error": "deadline_exceeded", "time_limit_seconds": time_limit_seconds})
        case Reason.SHUTDOWN:
            return decided if has_result or isinstance(decided, Suspended) else hand_back()
