"""Decide which calls go together in a batch, as a database does with group commit.

While a batch is under way, new calls gather; when it has ended, those that wait form the next one. A call
that comes while none is under way begins a batch at once, so batching delays nothing under a light load.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

Call = TypeVar("Call")


class GroupCommit(Generic[Call]):
    """The calls that wait, and the number of batches under way. It makes no call itself.

    A batcher calls `add` for each call, and `begin`, `take` and `end` for each batch.

    Args:
        max_size: the most calls of a batch.
        may_overlap: whether another batch may begin, given how many are under way; asked only if one is.
    """

    def __init__(self, max_size: int, may_overlap: Callable[[int], bool]) -> None:
        self._max_size = max_size
        self._may_overlap = may_overlap
        self._waiting: deque[Call] = deque()
        self.under_way: int = 0

    @property
    def first_waiting(self) -> Call | None:
        """The call that has waited longest; None if none waits."""
        return self._waiting[0] if self._waiting else None

    @property
    def waiting_count(self) -> int:
        """How many calls wait."""
        return len(self._waiting)

    def add(self, call: Call) -> None:
        """Let a call wait for a batch."""
        self._waiting.append(call)

    def begin(self) -> bool:
        """Begin a batch if a call waits and a batch may begin; return whether it did."""
        if not self._waiting or (self.under_way and not self._may_overlap(self.under_way)):
            return False
        self.under_way += 1
        return True

    def take(self, most: int | None = None) -> list[Call]:
        """Take the calls of a batch that has begun, in order of arrival; none if another batch has them.

        Args:
            most: take no more than this.
        """
        waiting = self._waiting
        max_size = self._max_size if most is None else min(most, self._max_size)
        if len(waiting) > max_size:
            return [waiting.popleft() for _ in range(max_size)]
        taken = list(waiting)
        waiting.clear()
        return taken

    def end(self, unmade: Sequence[Call] = ()) -> Call | None:
        """End a batch, and return the call that has waited longest; None if none waits.

        Args:
            unmade: its calls that were not made; they wait again, before all others.
        """
        self.under_way -= 1
        if unmade:
            self._waiting.extendleft(reversed(unmade))
        return self._waiting[0] if self._waiting else None

    def drop(self, call: Call) -> Call | None:
        """Forget a call if it still waits, and return the one that has waited longest; None if none waits."""
        with suppress(ValueError):
            self._waiting.remove(call)
        return self._waiting[0] if self._waiting else None
