"""The turn's state machine (wire 8)."""

from __future__ import annotations

import itertools

import pytest

from cgworker.errors import InvariantError
from cgworker.lifecycle import TRANSITIONS, Trigger, TurnState, advance

HOLDERS_OPERATIONS = {
    Trigger.RENEW,
    Trigger.APPEND,
    Trigger.DISPATCH_CHILD,
    Trigger.FINISH,
    Trigger.SUSPEND,
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(TurnState, Trigger)))
def test_advance_follows_the_table_and_refuses_the_rest(state: TurnState, event: Trigger) -> None:
    """There is no transition but those written down."""
    if (state, event) in TRANSITIONS:
        assert advance(state, event) is TRANSITIONS[state, event]
        return
    with pytest.raises(InvariantError, match=f"a {state} turn cannot take {event}"):
        advance(state, event)


def test_closed_is_final() -> None:
    """Nothing leads out of closed; a stop may still be noted."""
    assert [(event, after) for (state, event), after in TRANSITIONS.items() if state is TurnState.CLOSED] == [
        (Trigger.STOP, TurnState.CLOSED)
    ]


def test_only_a_claim_makes_a_turn_running() -> None:
    """So whatever runs has a claim."""
    into = {e for (state, e), after in TRANSITIONS.items() if after is TurnState.RUNNING is not state}
    assert into == {Trigger.CLAIM}


def test_only_a_running_turn_takes_its_holders_operations() -> None:
    """Without a lease there is no holder."""
    assert {state for state, event in TRANSITIONS if event in HOLDERS_OPERATIONS} == {TurnState.RUNNING}


def test_every_event_is_possible_and_every_state_is_reached() -> None:
    """No word of the table is there for nothing."""
    reached = {TurnState.QUEUED}
    while more := {after for (state, _), after in TRANSITIONS.items() if state in reached} - reached:
        reached |= more
    assert reached == set(TurnState)
    assert {event for _, event in TRANSITIONS} == set(Trigger)


def test_every_turn_can_still_be_closed() -> None:
    """From every state some way leads to closed: no turn is lost for good."""
    closable = {TurnState.CLOSED}
    while more := {state for (state, _), after in TRANSITIONS.items() if after in closable} - closable:
        closable |= more
    assert closable == set(TurnState)
