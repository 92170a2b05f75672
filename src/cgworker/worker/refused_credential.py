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


class Patience:
    """The time that one worker tolerates refusals of its credential.

    Args:
        seconds: the seconds from the first refusal on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._refused_at: float | None = None
        self._all: WeakSet[Patience] = loop_local("credential patience", WeakSet)

    def left_after(self, *, is_refused: bool) -> float:
        """Return the seconds for which to go on after this failure; 0 or less means to end.

        Args:
            is_refused: whether the credential was refused; any other failure starts the time anew.
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
        """Whether it has been refused for its time."""
        return self._left <= 0

    def reset(self) -> None:
        """Start the time anew, since the credential was accepted."""
        self._all.add(self)
        self._refused_at = None

    def end(self) -> None:
        """Leave the others alone, since this worker no longer claims."""
        self._all.discard(self)
