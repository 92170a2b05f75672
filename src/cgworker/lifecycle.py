"""The turn's state machine, as one table.

The kernel decides by it, tests enumerate it, the docs draw their picture from it.
Rules (wire 8):

- A turn is born queued by a dispatch; a work-memory report is born closed.
- Only a claim makes a queued turn running, and only a running turn has a claim.
- The holder of the claim may renew, append, finish or suspend, until the lease ends.
- An ended lease gives the turn back (reconcile), or closes it if a stop is asked for then.
- Closed is final. A stop may still be noted on a closed turn, which changes no state.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from cgworker.errors import InvariantError


class TurnState(StrEnum):
    """Where a turn is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUSPENDED = "suspended"
    CLOSED = "closed"


class TurnOutcome(StrEnum):
    """How a closed turn ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


class TurnEvent(StrEnum):
    """What can happen to a turn. Operations of a claim's holder presuppose a live lease."""

    CLAIM = "claim"
    RENEW = "renew"
    APPEND = "append"
    DISPATCH_CHILD = "dispatch_child"
    FINISH = "finish"
    SUSPEND = "suspend"
    RESUME = "resume"
    RECONCILE = "reconcile"
    """The lease has ended: the turn is given back."""
    STOP = "stop"
    """A stop is asked for while no ended lease stands in the way."""
    STOP_EXPIRED = "stop_expired"
    """A stop is asked for after the lease has ended."""


TRANSITIONS: Mapping[tuple[TurnState, TurnEvent], TurnState] = {
    (TurnState.QUEUED, TurnEvent.CLAIM): TurnState.RUNNING,
    (TurnState.QUEUED, TurnEvent.STOP): TurnState.QUEUED,
    (TurnState.RUNNING, TurnEvent.RENEW): TurnState.RUNNING,
    (TurnState.RUNNING, TurnEvent.APPEND): TurnState.RUNNING,
    (TurnState.RUNNING, TurnEvent.DISPATCH_CHILD): TurnState.RUNNING,
    (TurnState.RUNNING, TurnEvent.FINISH): TurnState.CLOSED,
    (TurnState.RUNNING, TurnEvent.SUSPEND): TurnState.SUSPENDED,
    (TurnState.RUNNING, TurnEvent.RECONCILE): TurnState.QUEUED,
    (TurnState.RUNNING, TurnEvent.STOP): TurnState.RUNNING,
    (TurnState.RUNNING, TurnEvent.STOP_EXPIRED): TurnState.CLOSED,
    (TurnState.SUSPENDED, TurnEvent.RESUME): TurnState.QUEUED,
    (TurnState.SUSPENDED, TurnEvent.STOP): TurnState.SUSPENDED,
    (TurnState.CLOSED, TurnEvent.STOP): TurnState.CLOSED,
}


def advance(state: TurnState, event: TurnEvent) -> TurnState:
    """The state after `event`.

    Raises:
        InvariantError: the table has no such transition; the kernel refuses the operation.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise InvariantError(f"a {state} turn cannot take {event}") from None
