"""Notice that the event loop was blocked, and log the code that blocked it.

A handler that blocks the loop (a plain `time.sleep`, a heavy computation) keeps every renewal from being
sent. The loop beats once a second; a thread looks at the beat, and when it fails says where the loop's
thread is stuck, while it is stuck. After the loop goes on, or the machine woke from sleep, leases that ended
meanwhile are given up at once and not at their next renewal.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import anyio.abc

from cgworker.events import LoopBlocked, logger
from cgworker.lease import monotonic
from cgworker.worker.batching.batcher import loop_local

_BEAT_SECONDS = 1.0


Told = Callable[[LoopBlocked], None]


class LoopMonitor:
    """Watches an event loop, for all that want to know; `loop_watch` gives the one of this loop.

    Args:
        blocked_seconds: standing still longer than this counts.
    """

    def __init__(self, *, blocked_seconds: float = 2.0) -> None:
        self._blocked_seconds = blocked_seconds
        self._told: dict[Told, anyio.abc.TaskGroup] = {}
        self._watching: anyio.CancelScope | None = None
        self._host: anyio.abc.TaskGroup | None = None
        self._beat_at = monotonic()
        self._stack = ""

    @contextmanager
    def telling(self, told: Told, tasks: anyio.abc.TaskGroup) -> Iterator[None]:
        """Until the block ends, tell somebody, in the loop, when it stood still.

        Args:
            told: whom.
            tasks: what watches for all runs in the tasks of one of them; when that ends, in another's.
        """
        self._told[told] = tasks
        self._watch_in(tasks)
        try:
            yield
        finally:
            del self._told[told]
            if self._watching is not None and tasks is self._host:
                self._watching.cancel()
                self._watching = None
                if self._told:
                    self._watch_in(next(iter(self._told.values())))

    def _watch_in(self, tasks: anyio.abc.TaskGroup) -> None:
        if self._watching is None:
            self._host, self._watching = tasks, anyio.CancelScope()
            tasks.start_soon(self._watch, self._watching)

    async def _watch(self, watching: anyio.CancelScope) -> None:
        with watching:
            self._beat_at, over = monotonic(), threading.Event()
            looking = (threading.get_ident(), over)
            threading.Thread(target=self._look, args=looking, name="cgworker-loop-watch", daemon=True).start()
            try:
                await self._beat()
            finally:
                over.set()

    async def _beat(self) -> None:
        while True:
            await anyio.sleep(min(_BEAT_SECONDS, self._blocked_seconds / 2))
            now = monotonic()
            stood_still, self._beat_at = now - self._beat_at, now
            if stood_still > self._blocked_seconds:
                stack, self._stack = self._stack, ""
                blocked = LoopBlocked(seconds=round(stood_still, 1), stack=stack)
                for told in tuple(self._told):
                    told(blocked)

    def _look(self, loop_thread: int, over: threading.Event) -> None:
        while not over.wait(min(_BEAT_SECONDS, self._blocked_seconds / 2)):
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


def loop_watch() -> LoopMonitor:
    """The watch of this event loop."""
    return loop_local("loop watch", LoopMonitor)
