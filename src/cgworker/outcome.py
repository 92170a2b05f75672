"""What a handler decides about its turn: a small closed set of answers.

A handler may return a plain value (the turn succeeded with it), None (it succeeded without a payload) or
one of these. An exception is none of them: what it becomes is the worker's `on_error`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve, field, frozen

from cgworker.wire.converter import ABSENT, dumps, unstructure_plain

SHUTDOWN_REASON = "worker_shutdown"
"""Suspend reason of a turn handed back by a worker that shuts down (difference 21)."""

RETRY_REASON = "worker_retry"
"""Suspend reason of a turn to be tried again; settling it writes `not_before` (difference 22)."""

AWAIT_CHILDREN_REASON = "await_children"
"""Suspend reason of a turn that waits for its children (difference 22)."""

AWAIT_ANSWER_REASON = "await_answer"
"""Suspend reason of a turn that has asked a question."""

NO_HANDLER_REASON = "no_handler"
"""Suspend reason of a turn whose kind the worker does not handle (difference 22)."""


@frozen
class Succeeded:
    """The work is done; `payload`, if any, becomes the final record."""

    payload: Any = ABSENT
    role: str = "deliverable"


@frozen
class Failed:
    """The work cannot be done; `payload`, if any, says why, in public."""

    payload: Any = ABSENT
    role: str = "error_report"


@frozen
class Stopped:
    """The work was ended before it was done, because somebody asked for that."""

    payload: Any = ABSENT
    role: str = "deliverable"


@frozen
class Suspended:
    """The turn is put aside.

    Attributes:
        reason: why, one word for programs.
        note: why, for people; public.
        annotations: facts kept in the ledger event.
        resume_after_seconds: when the worker queues the turn again by itself; None leaves that to others.
    """

    reason: str
    note: str | None = None
    annotations: Mapping[str, Any] = field(factory=dict)
    resume_after_seconds: float | None = None


class Suspending(BaseException):
    """Unwinds a handler whose turn is put aside by `turn.children` or `turn.ask`.

    It is outside Exception, so that a handler's `except Exception` lets it through. Let it through: the turn
    is suspended whatever the handler returns instead.
    """

    def __init__(self, outcome: Suspended) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


Closed = Succeeded | Failed | Stopped
Outcome = Closed | Suspended


def succeed(payload: Any = ABSENT, role: str = "deliverable") -> Succeeded:
    """Close the turn as succeeded. `succeed(None)` leaves a record of null, `succeed()` none."""
    return Succeeded(payload, role)


def fail(payload: Any = ABSENT, role: str = "error_report") -> Failed:
    """Close the turn as failed. The payload is public: say what went wrong, not what is secret."""
    return Failed(payload, role)


def stop(payload: Any = ABSENT) -> Stopped:
    """Close the turn as stopped, with what there is."""
    return Stopped(payload)


def suspend(reason: str, note: str | None = None) -> Suspended:
    """Put the turn aside until somebody with the right to do so resumes it."""
    return Suspended(reason, note)


def retry(after_seconds: float = 0) -> Suspended:
    """Hand the turn back and have it claimed again, by any worker of this agent.

    Args:
        after_seconds: not before so many seconds have passed since the turn was suspended, by the kernel's
            clock; 0 is at once.
    """
    return Suspended(RETRY_REASON, resume_after_seconds=after_seconds)


def hand_back() -> Suspended:
    """Hand the turn back because the worker shuts down: not a failure, and it spends no attempt."""
    return Suspended(SHUTDOWN_REASON, resume_after_seconds=0)


def outcome_of(value: Any) -> Outcome:
    """What a handler's return value stands for."""
    if isinstance(value, Succeeded | Failed | Stopped | Suspended):
        return value
    return Succeeded() if value is None else Succeeded(value)


def plain_outcome(outcome: Outcome) -> Outcome:
    """The outcome with its payload as JSON, as whoever reads the turn will get it.

    Raises:
        TypeError, ValueError: the payload is not JSON: the handler's error, here and not when it is settled.
    """
    if isinstance(outcome, Suspended) or outcome.payload is ABSENT:
        return outcome
    payload = unstructure_plain(outcome.payload)
    dumps(payload)  # refuses what is too deep, and text that is none
    return evolve(outcome, payload=payload)


def word_for(outcome: Outcome) -> str:
    """The outcome as the wire names it; "suspended" for what leaves the turn open."""
    return type(outcome).__name__.lower()
