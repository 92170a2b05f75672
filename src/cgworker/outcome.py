"""Outcomes: what a handler decides about its turn.

A handler returns one of these, a plain value (a success with this payload) or None (a success without a
payload). An exception is not an outcome: the worker's `on_error` says what it becomes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from cgworker.wire.absent import ABSENT
from cgworker.wire.converter import dumps, unstructure_plain

SHUTDOWN_REASON = "worker_shutdown"
"""Suspend reason of a turn handed back by a worker that shuts down (difference 21)."""

RETRY_REASON = "worker_retry"
"""Suspend reason of a turn to be tried again; settling it writes `not_before` (difference 22)."""

AWAIT_CHILDREN_REASON = "await_children"
"""Suspend reason of a turn that waits for its children (difference 22)."""

AWAIT_ANSWER_REASON = "await_answer"
"""Suspend reason of a turn that has asked a question."""

AWAIT_TIME_REASON = "await_time"
"""Suspend reason of a turn that sleeps."""

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
    """The work was ended early, because a stop was requested."""

    payload: Any = ABSENT
    role: str = "deliverable"


@frozen
class Suspended:
    """The turn is suspended.

    Attributes:
        reason: why, as a word for programs.
        note: why, for people; public.
        annotations: facts kept in the ledger event.
        resume_after_seconds: after how many seconds the worker resumes the turn; None leaves it suspended.
    """

    reason: str
    note: str | None = None
    annotations: Mapping[str, Any] = field(factory=dict)
    resume_after_seconds: float | None = None


class Suspending(BaseException):
    """Unwinds a handler whose turn is suspended by `turn.children` or `turn.ask`.

    It is no Exception, so that `except Exception` in a handler does not catch it. Do not catch it otherwise:
    the turn is suspended whatever the handler returns instead.
    """

    def __init__(self, outcome: Suspended) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


Closed = Succeeded | Failed | Stopped
Outcome = Closed | Suspended
_OUTCOMES = (Succeeded, Failed, Stopped, Suspended)


def succeed(payload: Any = ABSENT, role: str = "deliverable") -> Succeeded:
    """Close the turn as succeeded.

    Args:
        payload: any JSON value for the final record; without it there is none. None is a record of null.
        role: the role of the final record.
    """
    return Succeeded(payload, role)


def fail(payload: Any = ABSENT, role: str = "error_report") -> Failed:
    """Close the turn as failed.

    Args:
        payload: any JSON value that says what went wrong. It is public: put no secrets into it.
        role: the role of the final record.
    """
    return Failed(payload, role)


def stop(payload: Any = ABSENT) -> Stopped:
    """Close the turn as stopped.

    Args:
        payload: any JSON value, such as an incomplete result.
    """
    return Stopped(payload)


def suspend(reason: str, note: str | None = None) -> Suspended:
    """Suspend the turn until it is resumed, which needs the right to do so.

    Args:
        reason: why, as a word for programs.
        note: why, for people; public.
    """
    return Suspended(reason, note)


def retry(after_seconds: float = 0) -> Suspended:
    """Hand the turn back and have it claimed again, by any worker of this agent.

    Args:
        after_seconds: not before so many seconds have passed since the turn was suspended, by the kernel's
            clock; 0 is at once.
    """
    return Suspended(RETRY_REASON, resume_after_seconds=after_seconds)


def hand_back() -> Suspended:
    """Hand the turn back because the worker shuts down. This is no failure and uses up no attempt."""
    return Suspended(SHUTDOWN_REASON, resume_after_seconds=0)


def outcome_of(value: Any) -> Outcome:
    """Return the outcome that a handler's return value stands for."""
    if isinstance(value, _OUTCOMES):
        return value
    return Succeeded() if value is None else Succeeded(value)


def plain_outcome(outcome: Outcome) -> Outcome:
    """Return the outcome with its payload as plain JSON, as readers of the turn will get it.

    Raises:
        TypeError, ValueError: the payload is not JSON, which is the handler's fault.
    """
    if isinstance(outcome, Suspended) or outcome.payload is ABSENT:
        return outcome
    payload = unstructure_plain(outcome.payload)
    dumps(payload)  # refuses what is nested too deeply, and invalid text
    return type(outcome)(payload, outcome.role)


def word_for(outcome: Outcome) -> str:
    """Return the outcome's word on the wire; "suspended" for one that leaves the turn open."""
    return type(outcome).__name__.lower()
