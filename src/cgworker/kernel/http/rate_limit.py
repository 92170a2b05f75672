"""How often one source may try something: a bucket for each, filled evenly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

MAX_SOURCES = 10_000
"""How many sources are remembered at most."""


class Throttle:
    """Lets each source through so many times a minute, all at once or spread.

    It is kept in this process alone: several kernels allow several times as much. Where more sources come
    than are remembered, those are forgotten that may try most.

    Args:
        per_minute: how many times; 0 sets no limit.
        clock: seconds that never go back.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = per_minute
        self._per_second = per_minute / 60
        self._clock = clock
        self._emptied_at: dict[str, float] = {}

    @property
    def source_count(self) -> int:
        """How many sources are remembered."""
        return len(self._emptied_at)

    def take(self, source: str) -> float:
        """Let the source through once.

        Returns:
            0, or the seconds after which it may try again.
        """
        if not self._capacity:
            return 0
        now = self._clock()
        if len(self._emptied_at) >= MAX_SOURCES:
            self._forget(now)
        # The bucket is written down as the moment at which it would have been empty.
        emptied_at = max(self._emptied_at.get(source, -math.inf), now - self._capacity / self._per_second)
        wait_seconds = emptied_at + 1 / self._per_second - now
        if wait_seconds > 0:
            return wait_seconds
        self._emptied_at[source] = emptied_at + 1 / self._per_second
        return 0

    def _forget(self, now: float) -> None:
        """Forget the sources whose buckets are full again, and of the others half if that is not enough."""
        full_since = now - self._capacity / self._per_second
        busy = {source: at for source, at in self._emptied_at.items() if at > full_since}
        if len(busy) > MAX_SOURCES // 2:
            busy = dict(sorted(busy.items(), key=lambda item: item[1])[-(MAX_SOURCES // 2) :])
        self._emptied_at = busy
