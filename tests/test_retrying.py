"""Repeated calls, and how long to wait before the next one. Time jumps in these tests."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import anyio
import pytest

from cgworker.errors import (
    CommonGroundError,
    KernelOverloaded,
    KernelTrouble,
    KernelUnreachable,
    NotFoundError,
)
from cgworker.retrying import Backoff, retry
from cgworker.testing import virtual_time


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return virtual_time(request.param)


class Calls:
    """A call that fails with these errors, one after the other, before it returns "done"."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.at: list[float] = []

    async def __call__(self) -> str:
        self.at.append(anyio.current_time())
        if self._errors:
            raise self._errors.pop(0)
        return "done"


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


async def test_a_call_is_repeated_until_it_returns() -> None:
    """The waits are those of the backoff, and a Retry-After is honoured."""
    calls = Calls(KernelUnreachable("gone"), KernelOverloaded("busy", retry_after_seconds=7))
    assert await retry(calls, on=KernelTrouble, backoff=Backoff(1, 30)) == "done"
    first, second = (later - sooner for sooner, later in pairwise(calls.at))
    assert 0.5 <= first <= 1
    assert second == pytest.approx(7)


async def test_an_error_of_another_kind_is_raised_at_once() -> None:
    """A refusal does not change by asking again."""
    calls = Calls(KernelUnreachable("gone"), NotFoundError("no such turn"))
    with pytest.raises(NotFoundError):
        await retry(calls, on=KernelTrouble, backoff=Backoff(1, 30))
    assert len(calls.at) == 2


async def test_a_function_may_say_which_errors_are_repeated() -> None:
    """Some errors tell by more than their class whether to try again."""
    calls = Calls(CommonGroundError("soon"), CommonGroundError("never"), CommonGroundError("soon"))
    with pytest.raises(CommonGroundError, match="never"):
        await retry(calls, on=lambda error: str(error) == "soon", backoff=Backoff(1, 30))
    assert len(calls.at) == 2


async def test_the_last_of_a_number_of_attempts_raises() -> None:
    """Its error is raised without a further wait."""
    calls = Calls(*(KernelUnreachable(f"gone {n}") for n in range(9)))
    with pytest.raises(KernelUnreachable, match="gone 2"):
        await retry(calls, on=KernelTrouble, backoff=Backoff(1, 1), attempts=3)
    assert len(calls.at) == 3
    assert anyio.current_time() == calls.at[-1]


async def test_the_caller_may_shorten_a_wait_or_give_up() -> None:
    """As a lease does, under which there is no time for a long one."""

    def wait(trouble: Exception, seconds: float) -> float:
        if len(calls.at) == 3:
            raise TimeoutError from trouble
        return seconds / 10

    calls = Calls(*(KernelUnreachable("gone") for _ in range(9)))
    with pytest.raises(TimeoutError):
        await retry(calls, on=KernelTrouble, backoff=Backoff(10, 10), wait=wait)
    assert 1 <= calls.at[-1] - calls.at[0] <= 2
