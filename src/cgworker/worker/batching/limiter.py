"""Calls that can wait: what a worker asks when it starts, and now and again afterwards.

Thousands of workers that start in one process would else ask at one time, and keep the event loop from the
renewals of those that have turns already.
"""

from __future__ import annotations

import anyio

from cgworker.client import KernelClient
from cgworker.worker.batching.batcher import loop_local

_AT_ONCE = 16


def background_calls(kernel: KernelClient) -> anyio.Semaphore:
    """Enter it for the call: a few of them are made at a time, of all workers of this event loop."""
    return loop_local(("background calls", kernel.route), lambda: anyio.Semaphore(_AT_ONCE))
