"""How long to wait before asking again."""

from __future__ import annotations

from itertools import pairwise

import pytest

from cgworker.client.backoff import Backoff
from cgworker.errors import KernelOverloaded, KernelUnreachable


def test_waits_double_up_to_the_longest() -> None:
    """Each wait lies between half of its step and the whole of it."""
    backoff = Backoff(1, 30)
    for step in (1, 2, 4, 8, 16, 30, 30):
        assert step / 2 <= backoff.next_seconds() <= step


def test_a_thousand_failures_are_no_overflow() -> None:
    """A kernel may be away for a week."""
    backoff = Backoff(0.1, 30)
    assert max(backoff.next_seconds() for _ in range(5000)) <= 30


def test_success_starts_it_anew() -> None:
    """The next failure is a first one."""
    backoff = Backoff(1, 30)
    for _ in range(10):
        backoff.next_seconds()
    backoff.reset()
    assert backoff.next_seconds() <= 1


def test_many_do_not_come_back_at_once() -> None:
    """Half of a wait is chance."""
    waits = sorted(Backoff(8, 8).next_seconds() for _ in range(50))
    assert all(a != b for a, b in pairwise(waits))


@pytest.mark.parametrize(("said", "least"), [(None, 0.5), (0, 0.5), (100, 100)])
def test_the_kernel_is_not_asked_sooner_than_it_said(said: float | None, least: float) -> None:
    """Its Retry-After holds, even beyond the longest wait."""
    assert Backoff(1, 2).next_seconds(KernelOverloaded("busy", retry_after_seconds=said)) >= least
    assert Backoff(1, 2).next_seconds(KernelUnreachable("gone")) <= 1
