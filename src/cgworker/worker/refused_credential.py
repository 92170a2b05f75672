"""How long a worker keeps claiming while the kernel refuses its credential (difference 41).

A refused worker must not end a process in which other workers still work: it goes on trying, and is not
ready. The workers of an event loop end only when each of them has been refused for its time.
"""

from __future__ import annotations

import math
from weakref import WeakSet

from cgworker.lease import monotonic
from cgworker.worker.batching.batcher import loop_local

_RECHECK_SECONDS = 5.0  # while other workers are not refused


class RefusalTimer:
    """Measures for how long the kernel has refused a worker's credential.

    Args:
        seconds: how long the worker tolerates refusals, from the first one on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._refused_at: float | None = None
        self._all: WeakSet[RefusalTimer] = loop_local("refusal timers", WeakSet)

    def left_after(self, *, is_refused: bool) -> float:
        """Return for how many seconds to go on after this failure; 0 or less means to end.

        Args:
            is_refused: whether the credential was refused; any other failure resets the timer.
        """
        self._all.add(self)
        if not is_refused:  # an outage says nothing of the credential
            self._refused_at = None
            return math.inf
        if self._refused_at is None:
            self._refused_at = monotonic()
        left = self._left
        return left if left > 0 or all(each.is_over for each in self._all) else _RECHECK_SECONDS

    @property
    def _left(self) -> float:
        return math.inf if self._refused_at is None else self._refused_at + self._seconds - monotonic()

    @property
    def is_over(self) -> bool:
        """Whether the worker has been refused for as long as it tolerates."""
        return self._left <= 0

    def reset(self) -> None:
        """Reset the timer, since the credential was accepted."""
        self._all.add(self)
        self._refused_at = None

    def end(self) -> None:
        """Stop counting for the other workers, since this one no longer claims."""
        self._all.discard(self)
