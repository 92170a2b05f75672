"""Rate limit by source: a token bucket for each source."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

MAX_SOURCES = 10_000
"""The maximum number of sources that are remembered."""


class Throttle:
    """Limits the attempts of each source per minute; a source may make them all at once.

    The buckets are kept in this process alone, so several kernels allow several times as many attempts. If
    there are more than `MAX_SOURCES` sources, those with the most attempts left are forgotten.

    Args:
        per_minute: the number of attempts; 0 sets no limit.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = per_minute
        self._per_second = per_minute / 60
        self._clock = clock
        self._emptied_at: dict[str, float] = {}

    @property
    def source_count(self) -> int:
        """The number of sources that are remembered."""
        return len(self._emptied_at)

    def take(self, source: str) -> float:
        """Take an attempt from the source's bucket.

        Returns:
            0 if the attempt is allowed; else the seconds after which the source may try again.
        """
        if not self._capacity:
            return 0
        now = self._clock()
        if len(self._emptied_at) >= MAX_SOURCES:
            self._forget(now)
        # A bucket is stored as the moment at which it would be empty.
        emptied_at = max(self._emptied_at.get(source, -math.inf), now - self._capacity / self._per_second)
        wait_seconds = emptied_at + 1 / self._per_second - now
        if wait_seconds > 0:
            return wait_seconds
        self._emptied_at[source] = emptied_at + 1 / self._per_second
        return 0

    def _forget(self, now: float) -> None:
        """Forget the sources with full buckets; if too many remain, also the fuller half of them."""
        full_since = now - self._capacity / self._per_second
        busy = {source: at for source, at in self._emptied_at.items() if at > full_since}
        if len(busy) > MAX_SOURCES // 2:
            busy = dict(sorted(busy.items(), key=lambda item: item[1])[-(MAX_SOURCES // 2) :])
        self._emptied_at = busy
