"""Share reads of the kernel among tabs: what was read since the last change is not read again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, TypeVar

import anyio
from attrs import define, field

from cgworker.console.feed import FeedReader

T = TypeVar("T")

_MAX_ENTRIES = 256
_AT_ONCE = 8
_MAX_AGE_SECONDS = 5.0  # presence changes without an event


@define
class _Entry:
    lock: anyio.Lock = field(factory=anyio.Lock)
    version: int = -1
    read_at: float = 0.0
    result: Any = None


class SharedReads:
    """Results by key, valid until the feed has news, and for five seconds at most.

    Args:
        feed: tells when something has changed.
    """

    def __init__(self, feed: FeedReader) -> None:
        self._feed = feed
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    async def get(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """Return a result, which is read if no tab has read it since the last change.

        Args:
            key: what identifies the read.
            read: reads it.
        """
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        if len(self._entries) > _MAX_ENTRIES:
            self._entries.popitem(last=False)
        async with entry.lock:
            if not self._is_valid(entry):
                version, read_at = self._feed.version, anyio.current_time()
                entry.result = await read()
                entry.version, entry.read_at = version, read_at
            result: T = entry.result
            return result

    def _is_valid(self, entry: _Entry) -> bool:
        age = anyio.current_time() - entry.read_at
        return age < _MAX_AGE_SECONDS and entry.version == self._feed.version and self._feed.trouble is None


async def read_each(names: Sequence[str], read: Callable[[str], Awaitable[T]]) -> dict[str, T]:
    """Return what is read for each name, a few at a time; the first error is raised as it is.

    Args:
        names: the names.
        read: reads one.
    """
    limiter = anyio.CapacityLimiter(_AT_ONCE)

    async def limited(name: str) -> T:
        async with limiter:
            return await read(name)

    return dict(zip(names, await asyncio.gather(*map(limited, names)), strict=True))
