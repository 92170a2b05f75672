"""How long a worker bears that the kernel refuses its credential (difference 41).

A worker among others does not end the process of those that work: it goes on trying, and is not ready. Only
when all the workers of an event loop are refused, each for as long as it bears it, they end.
"""

from __future__ import annotations

import math
from weakref import WeakSet

from cgworker.lease import monotonic
from cgworker.worker.batching.batcher import loop_local

_LOOK_SECONDS = 5.0  # at the others


class Patience:
    """That of one worker.

    Args:
        seconds: how long it bears a refusal.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._refused_at: float | None = None
        self._all: WeakSet[Patience] = loop_local("credential patience", WeakSet)

    def left_after(self, *, is_refused: bool) -> float:
        """For how many seconds to go on after this failure; 0 or less is no longer."""
        self._all.add(self)
        if not is_refused:  # an outage says nothing of the credential
            self._refused_at = None
            return math.inf
        if self._refused_at is None:
            self._refused_at = monotonic()
        left = self._left
        return left if left > 0 or all(each.is_over for each in self._all) else _LOOK_SECONDS

    @property
    def _left(self) -> float:
        return math.inf if self._refused_at is None else self._refused_at + self._seconds - monotonic()

    @property
    def is_over(self) -> bool:
        """Whether it has been refused for as long as it bears it."""
        return self._left <= 0

    def reset(self) -> None:
        """The credential was accepted."""
        self._all.add(self)
        self._refused_at = None

    def end(self) -> None:
        """The worker claims no more."""
        self._all.discard(self)
