"""The verdict of `make failover` finds each fault that it is there for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from tests.failover.answers import Answers
from tests.failover.verdict import ClosedTurn, Evidence, judge


def _evidence(*more: dict[str, Any], payload: Any = None) -> Evidence:
    """One turn that was dispatched, claimed, worked and finished, and what else the workers wrote down."""
    answers, own = Answers(), {"n": 0, "run": "r"}
    answers.dispatched[0] = ("T-1", 0.5)
    lines: list[dict[str, Any]] = [
        _claimed("a", attempt=1, at=1.0),
        {"word": "start", "run": "r", "turn": "T-1", "at": 1.1},
        {"word": "end", "run": "r", "at": 1.2},
        {"word": "settling", "claim": "a", "at": 1.3},
        {"word": "finished", "turn": "T-1", "payload": own, "at": 1.4},
        *more,
    ]
    for line in lines:
        answers.take(line)
    closed = {"T-1": ClosedTurn({"n": 0}, own if payload is None else payload)}
    return Evidence(
        answers=answers,
        feed=[],
        closed=closed,
        closed_in_the_end=closed,
        changed_dispatches=[],
        servants=[],
        ended_badly=[],
        results_kept=[],
        killed_at=0.8,
        promoted_at=0.9,
    )


def _claimed(token: str, *, attempt: int, at: float) -> dict[str, Any]:
    facts = {"claim": token, "turn": "T-1", "attempt": attempt, "lease": 10.0}
    return {"word": "claimed", "asked_at": at - 0.05, "at": at, **facts}


FAULTS: dict[str, Callable[[], Evidence]] = {
    "answered finishes lost": lambda: _evidence(payload={"n": 0, "run": "another"}),
    "turns closed with the result of another": lambda: _evidence(payload={"n": 7, "run": "r"}),
    "answered dispatches lost": lambda: evolve(_evidence(), changed_dispatches=[0]),
    "dispatches without a closed turn": lambda: evolve(_evidence(), closed_in_the_end={}),
    "kernels and workers that ended": lambda: evolve(_evidence(), ended_badly=["worker-1 with status 1"]),
    "claims held by two": lambda: _evidence(_claimed("b", attempt=2, at=1.25)),
    "handlers of one turn that overlap": lambda: _evidence(
        {"word": "start", "run": "s", "turn": "T-1", "at": 1.15}
    ),
    "turns seen closed on the old primary alone": lambda: evolve(
        _evidence(), closed_on_old={"T-2": ClosedTurn({"n": 1}, None)}
    ),
    "claims not again in time": lambda: evolve(_evidence(), killed_at=2.0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named(fault: str) -> None:
    assert [what for what, found in judge(_evidence()).faults.items() if found] == []
    assert judge(FAULTS[fault]()).faults[fault]


def test_a_renewed_claim_is_held_for_longer() -> None:
    renewed = {"word": "renewed", "claim": "b", "asked_at": 11.0, "at": 11.1}
    second, third = _claimed("b", attempt=2, at=2.0), _claimed("c", attempt=3, at=13.0)
    assert not judge(_evidence(second, third)).faults["claims held by two"]
    assert judge(_evidence(second, renewed, third)).faults["claims held by two"]


def test_a_loss_is_allowed_after_the_standby_was_cut_off_alone() -> None:
    lost = _evidence(payload={"n": 0, "run": "another"})
    assert judge(lost, kept_before=1.0).passed
    assert judge(lost, kept_before=2.0).faults["lost, though answered before the standby was cut off"]
    assert judge(_evidence(), kept_before=1.0).faults["drills that lost nothing"]
