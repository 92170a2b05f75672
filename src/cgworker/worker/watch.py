"""Noticing that the event loop stood still, and naming who kept it.

A handler that blocks the loop (a plain `time.sleep`, a heavy computation) keeps every renewal from being
sent. The loop beats once a second; a thread looks at the beat, and when it fails says where the loop's
thread is stuck, while it is stuck. After the loop goes on, or the machine woke from sleep, leases that ended
meanwhile are given up at once and not at their next renewal.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from cgworker.events import LoopBlocked, logger
from cgworker.lease import monotonic

_BEAT_SECONDS = 1.0


class LoopWatch:
    """Watches the event loop it is entered in.

    Args:
        on_blocked: told, in the loop, that it stood still.
        blocked_seconds: standing still longer than this counts.
    """

    def __init__(self, on_blocked: Callable[[LoopBlocked], None], *, blocked_seconds: float = 2.0) -> None:
        self._on_blocked = on_blocked
        self._blocked_seconds = blocked_seconds
        self._beat_at = monotonic()
        self._stack = ""
        self._over = threading.Event()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch until the block ends."""
        self._beat_at = monotonic()
        thread = threading.Thread(
            target=self._look, args=(threading.get_ident(),), name="cgworker-loop-watch", daemon=True
        )
        thread.start()
        async with anyio.create_task_group() as beating:
            beating.start_soon(self._beat)
            try:
                yield
            finally:
                self._over.set()
                beating.cancel_scope.cancel()

    async def _beat(self) -> None:
        while True:
            await anyio.sleep(min(_BEAT_SECONDS, self._blocked_seconds / 2))
            now = monotonic()
            stood_still, self._beat_at = now - self._beat_at, now
            if stood_still > self._blocked_seconds:
                stack, self._stack = self._stack, ""
                self._on_blocked(LoopBlocked(seconds=round(stood_still, 1), stack=stack))

    def _look(self, loop_thread: int) -> None:
        while not self._over.wait(min(_BEAT_SECONDS, self._blocked_seconds / 2)):
            if self._stack or monotonic() - self._beat_at <= self._blocked_seconds:
                continue
            frame = sys._current_frames().get(loop_thread)  # noqa: SLF001  # its documented purpose
            if frame is not None:
                self._stack = "".join(traceback.format_stack(frame, limit=3)).rstrip()
                logger.warning(
                    "the event loop stands still, and no lease is renewed; blocking work belongs into a"
                    " plain `def` handler, which runs in a thread:\n%s",
                    self._stack,
                )
