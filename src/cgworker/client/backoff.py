"""How long to wait before asking again: growing, jittered, and never sooner than the kernel said."""

from __future__ import annotations

import random

from cgworker.errors import KernelTrouble


class Backoff:
    """Waiting times between attempts at one thing.

    Args:
        first_seconds: about how long to wait after the first failure.
        most_seconds: the longest wait; a Retry-After may exceed it.
    """

    def __init__(self, first_seconds: float, most_seconds: float) -> None:
        self._first = first_seconds
        self._most = most_seconds
        self._failures = 0

    def next_seconds(self, error: Exception | None = None) -> float:
        """How long to wait now. Half is fixed and half is chance, so that many do not come back at once."""
        ceiling = min(self._most, self._first * 2.0 ** min(self._failures, 32))
        self._failures += 1
        wait = ceiling * (0.5 + random.random() / 2)
        said = error.retry_after_seconds if isinstance(error, KernelTrouble) else None
        return max(wait, said or 0.0)

    def reset(self) -> None:
        """It worked: the next failure is a first one."""
        self._failures = 0
