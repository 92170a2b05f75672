"""Repeat a call until it succeeds, and decide how long to wait in between."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from cgworker.errors import KernelTrouble

T = TypeVar("T")

Errors = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
"""Exception classes, or a function that says whether an exception is one of those meant."""


class Backoff:
    """The waits between the attempts at a call. They double up to a maximum, with jitter.

    Args:
        first_seconds: the wait after the first failure; jitter makes it up to half as short.
        max_seconds: the longest wait; a Retry-After of the kernel may exceed it.
    """

    def __init__(self, first_seconds: float, max_seconds: float) -> None:
        self._first = first_seconds
        self._max = max_seconds
        self._failures = 0

    def next_seconds(self, error: Exception | None = None) -> float:
        """Return how long to wait now. Half of it is random, so that many clients do not return at once.

        Args:
            error: the failure; the wait is never shorter than its Retry-After.
        """
        ceiling = min(self._max, self._first * 2.0 ** min(self._failures, 32))
        self._failures += 1
        wait = ceiling * (0.5 + random.random() / 2)
        said = error.retry_after_seconds if isinstance(error, KernelTrouble) else None
        return max(wait, said or 0.0)

    def reset(self) -> None:
        """Begin again with the first wait, after a success."""
        self._failures = 0


async def retry(
    call: Callable[[], Awaitable[T]],
    *,
    on: Errors,
    backoff: Backoff,
    attempts: int | None = None,
    wait: Callable[[Exception, float], float] = lambda _, seconds: seconds,
) -> T:
    """Repeat a call, backing off, until it returns or its error is final.

    Args:
        call: makes one attempt.
        on: the errors after which to try again. Any other one is raised.
        backoff: the waits between the attempts.
        attempts: the most attempts; the last one's error is raised. None is no such limit.
        wait: called after each failure, with the error and the seconds that `backoff` gives; returns the
            seconds to wait. It may raise an exception to give up.

    Returns:
        What the call returns.
    """
    made = 0
    while True:
        try:
            return await call()
        except Exception as error:
            made += 1
            if made == attempts or not _is_one_of(error, on):
                raise
            seconds = wait(error, backoff.next_seconds(error))
        await anyio.sleep(seconds)


def _is_one_of(error: Exception, errors: Errors) -> bool:
    return isinstance(error, errors) if isinstance(errors, type | tuple) else errors(error)
