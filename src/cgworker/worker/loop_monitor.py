"""Notice that the event loop was blocked, and log the code that blocked it.

A handler that blocks the loop (a plain `time.sleep`, a heavy computation) keeps every renewal from being
sent. The loop notes the time once a second. A thread reads that time; when it is old, the thread logs the
stack of the loop's thread, which is still blocked then. When the loop runs again, or the machine has woken
from sleep, leases that ended meanwhile are given up at once and not at their next renewal.
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

OnBlocked = Callable[[LoopBlocked], None]


class LoopMonitor:
    """Watches an event loop; `loop_monitor` returns the one that the runs in this loop share.

    Args:
        blocked_seconds: a longer pause of the loop is reported.
    """

    def __init__(self, *, blocked_seconds: float = 2.0) -> None:
        self._blocked_seconds = blocked_seconds
        self._listeners: dict[OnBlocked, anyio.abc.TaskGroup] = {}
        self._watching: anyio.CancelScope | None = None
        self._host: anyio.abc.TaskGroup | None = None
        self._beat_at = monotonic()
        self._stack = ""

    @contextmanager
    def notifying(self, on_blocked: OnBlocked, tasks: anyio.abc.TaskGroup) -> Iterator[None]:
        """Until the block ends, call a function in the loop after each time that the loop was blocked.

        Args:
            on_blocked: the function.
            tasks: may run the task that watches. There is one for all listeners; when the task group that
                it runs in ends, it moves to that of another listener.
        """
        self._listeners[on_blocked] = tasks
        self._watch_in(tasks)
        try:
            yield
        finally:
            del self._listeners[on_blocked]
            if self._watching is not None and tasks is self._host:
                self._watching.cancel()
                self._watching = None
                if self._listeners:
                    self._watch_in(next(iter(self._listeners.values())))

    def _watch_in(self, tasks: anyio.abc.TaskGroup) -> None:
        if self._watching is None:
            self._host, self._watching = tasks, anyio.CancelScope()
            tasks.start_soon(self._watch, self._watching)

    async def _watch(self, watching: anyio.CancelScope) -> None:
        with watching:
            self._beat_at, is_over = monotonic(), threading.Event()
            arguments = (threading.get_ident(), is_over)
            threading.Thread(
                target=self._log_when_blocked, args=arguments, name="cgworker-loop-watch", daemon=True
            ).start()
            try:
                await self._beat()
            finally:
                is_over.set()

    async def _beat(self) -> None:
        while True:
            await anyio.sleep(min(_BEAT_SECONDS, self._blocked_seconds / 2))
            now = monotonic()
            blocked_for, self._beat_at = now - self._beat_at, now
            if blocked_for > self._blocked_seconds:
                stack, self._stack = self._stack, ""
                blocked = LoopBlocked(seconds=round(blocked_for, 1), stack=stack)
                for on_blocked in tuple(self._listeners):
                    on_blocked(blocked)

    def _log_when_blocked(self, loop_thread: int, is_over: threading.Event) -> None:
        while not is_over.wait(min(_BEAT_SECONDS, self._blocked_seconds / 2)):
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


def loop_monitor() -> LoopMonitor:
    """Return the monitor that all runs in this event loop share."""
    return loop_local("loop watch", LoopMonitor)
