"""Run the blocking calls of private stores in threads of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

T = TypeVar("T")

_MAX_THREADS = 8
_LIMITER: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar("cgworker_store_threads")


async def in_thread(call: Callable[[], T]) -> T:
    """Run a call in a thread, and return its result. The caller can be cancelled; the call then goes on.

    The threads are not those of sync handlers: forty of these could wait for a store, and keep all threads
    from it.

    Args:
        call: the call, which may block.
    """
    try:
        limiter = _LIMITER.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_MAX_THREADS)
        _LIMITER.set(limiter)
    return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=limiter)
