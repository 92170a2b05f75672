"""Run the blocking calls of private stores in threads of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import sniffio

T = TypeVar("T")

_MAX_THREADS = 8
# Of an event loop: a forked child has a loop of its own, and none of its parent's threads.
_EXECUTOR: anyio.lowlevel.RunVar[ThreadPoolExecutor] = anyio.lowlevel.RunVar("cgworker_store_executor")
_LIMITER: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar("cgworker_store_threads")


async def in_thread(call: Callable[[], T]) -> T:
    """Run a call in a thread, and return its result. The caller can be cancelled; the call then goes on.

    The threads are not those of sync handlers: forty of these could wait for a store, and keep all threads
    from it. On asyncio they are not those of anyio either: it gives way to other tasks twice before a call.

    Args:
        call: the call, which may block.
    """
    if sniffio.current_async_library() == "asyncio":
        return await asyncio.get_running_loop().run_in_executor(_executor(), call)
    return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=_limiter())


def _executor() -> ThreadPoolExecutor:
    try:
        return _EXECUTOR.get()
    except LookupError:
        made = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="cgworker store")
        _EXECUTOR.set(made)
        return made


def _limiter() -> anyio.CapacityLimiter:
    try:
        return _LIMITER.get()
    except LookupError:
        made = anyio.CapacityLimiter(_MAX_THREADS)
        _LIMITER.set(made)
        return made
