"""Limit calls that can wait, such as those that a worker makes at its start.

Without the limit, thousands of workers that start in one process would all call at once, and delay the
renewals of those that hold turns already.
"""

from __future__ import annotations

import anyio

from cgworker.client import KernelClient
from cgworker.worker.batching.batcher import loop_local

_AT_ONCE = 16


def background_calls(kernel: KernelClient) -> anyio.Semaphore:
    """Return a semaphore to enter for such a call: it lets 16 run at a time in this event loop.

    Args:
        kernel: the kernel to be called; each kernel has a limit of its own.
    """
    return loop_local(("background calls", kernel.route), lambda: anyio.Semaphore(_AT_ONCE))
