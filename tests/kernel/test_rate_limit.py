"""How often one source may try something."""

from __future__ import annotations

import pytest

from cgworker.kernel.http.rate_limit import MAX_SOURCES, Throttle


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


def test_a_source_gets_a_minutes_worth_at_once_and_then_its_rate() -> None:
    """Whoever is told to wait succeeds after that long, and not before."""
    clock = Clock()
    throttle = Throttle(6, clock=clock)
    assert [throttle.take("a") for _ in range(6)] == [0] * 6
    assert throttle.take("a") == pytest.approx(10)
    clock.now += 9.9
    assert throttle.take("a") > 0
    clock.now += 0.2
    assert throttle.take("a") == 0
    assert throttle.take("a") > 0


def test_sources_do_not_slow_each_other() -> None:
    """Each has a bucket of its own."""
    throttle = Throttle(1, clock=Clock())
    assert (throttle.take("a"), throttle.take("b")) == (0, 0)
    assert throttle.take("a") > 0


def test_being_refused_costs_nothing() -> None:
    """Who keeps trying does not wait longer for it."""
    clock = Clock()
    throttle = Throttle(1, clock=clock)
    throttle.take("a")
    for _ in range(100):
        throttle.take("a")
    clock.now += 60.1
    assert throttle.take("a") == 0


def test_zero_sets_no_limit() -> None:
    """The operator can turn it off."""
    throttle = Throttle(0)
    assert {throttle.take("a") for _ in range(1000)} == {0}


def test_sources_that_went_away_are_forgotten() -> None:
    """A scan from many addresses does not fill the memory for ever."""
    clock = Clock()
    throttle = Throttle(60, clock=clock)
    for number in range(MAX_SOURCES):
        throttle.take(f"source {number}")
    clock.now += 120
    throttle.take("another")
    assert throttle.source_count == 1


def test_no_more_sources_are_remembered_than_that() -> None:
    """However many come within a minute; those that tried too often are not the ones forgotten."""
    throttle = Throttle(2, clock=Clock())
    assert [throttle.take("often") for _ in range(2)] == [0, 0]
    for number in range(3 * MAX_SOURCES):
        assert throttle.take(f"source {number}") == 0
        assert throttle.source_count <= MAX_SOURCES
    assert throttle.take("often") > 0
