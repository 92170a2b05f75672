"""The state machine of a turn, as one table.

The tests compare the kernel with it, and the docs draw it. The rules (wire 8):

- A dispatch makes a queued turn; a work-memory report makes a closed one.
- Only a claim makes a queued turn running, and only a running turn has a claim.
- The holder of the claim may renew, append, dispatch children, finish or suspend until the lease ends.
- After the lease has ended, reconciling queues the turn again, and a stop request closes it.
- A closed turn stays closed. A stop request on it is noted and changes no state.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from cgworker.errors import InvariantError


class TurnState(StrEnum):
    """The states of a turn."""

    QUEUED = "queued"
    RUNNING = "running"
    SUSPENDED = "suspended"
    CLOSED = "closed"


class TurnOutcome(StrEnum):
    """The outcomes of a closed turn."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"


class Trigger(StrEnum):
    """What can change the state of a turn. Operations of the claim's holder need a lease that lasts."""

    CLAIM = "claim"
    RENEW = "renew"
    APPEND = "append"
    DISPATCH_CHILD = "dispatch_child"
    FINISH = "finish"
    SUSPEND = "suspend"
    RESUME = "resume"
    RECONCILE = "reconcile"
    """The lease has ended, and the turn is queued again."""
    STOP = "stop"
    """A stop is requested; the turn has no claim, or one whose lease has not ended."""
    TELL = "tell"
    """The turn is told something, which needs no claim."""
    STOP_EXPIRED = "stop_expired"
    """A stop is requested after the lease of the claim has ended."""


TRANSITIONS: Mapping[tuple[TurnState, Trigger], TurnState] = {
    (TurnState.QUEUED, Trigger.CLAIM): TurnState.RUNNING,
    (TurnState.QUEUED, Trigger.STOP): TurnState.QUEUED,
    (TurnState.QUEUED, Trigger.TELL): TurnState.QUEUED,
    (TurnState.RUNNING, Trigger.RENEW): TurnState.RUNNING,
    (TurnState.RUNNING, Trigger.APPEND): TurnState.RUNNING,
    (TurnState.RUNNING, Trigger.DISPATCH_CHILD): TurnState.RUNNING,
    (TurnState.RUNNING, Trigger.FINISH): TurnState.CLOSED,
    (TurnState.RUNNING, Trigger.SUSPEND): TurnState.SUSPENDED,
    (TurnState.RUNNING, Trigger.RECONCILE): TurnState.QUEUED,
    (TurnState.RUNNING, Trigger.STOP): TurnState.RUNNING,
    (TurnState.RUNNING, Trigger.TELL): TurnState.RUNNING,
    (TurnState.RUNNING, Trigger.STOP_EXPIRED): TurnState.CLOSED,
    (TurnState.SUSPENDED, Trigger.RESUME): TurnState.QUEUED,
    (TurnState.SUSPENDED, Trigger.STOP): TurnState.SUSPENDED,
    (TurnState.SUSPENDED, Trigger.TELL): TurnState.SUSPENDED,
    (TurnState.CLOSED, Trigger.STOP): TurnState.CLOSED,
}


def advance(state: TurnState, trigger: Trigger) -> TurnState:
    """Return the state after a trigger.

    Raises:
        InvariantError: the table has no such transition; the kernel refuses the operation.
    """
    try:
        return TRANSITIONS[state, trigger]
    except KeyError:
        raise InvariantError(f"a {state} turn cannot take {trigger}") from None
