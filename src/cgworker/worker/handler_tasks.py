"""Run handlers in tasks of their own; those that wait for nothing share one, one after the other.

A task for each handler is a tenth of what a short turn costs a worker, and turns that came with one answer
start their handlers at one moment. So one task runs the first part of each, until it waits for something. A
handler that has ended by then needs no task of its own. One that waits keeps the task, and another task goes
on with the others. So a handler is in one task from its begin to its end, and alone in it meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from types import coroutine
from typing import Any, TypeAlias

import anyio.abc
import sniffio

Run: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class HandlerTasks:
    """Starts the calls of handlers.

    Args:
        tasks: runs their tasks.
    """

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks
        self._shares = sniffio.current_async_library() == "asyncio"  # trio's tasks cannot be shared like this
        self._waiting: deque[tuple[Run, Context]] = deque()
        self._has_task = False

    def start_soon(self, run: Run) -> None:
        """Start a call, in a copy of the current context, as soon as the event loop runs other tasks.

        Args:
            run: makes the call.
        """
        if not self._shares:
            self._tasks.start_soon(run)
            return
        self._waiting.append((run, copy_context()))
        if not self._has_task:
            self._start_task()

    def _start_task(self) -> None:
        self._has_task = True
        self._tasks.start_soon(self._run_waiting)

    async def _run_waiting(self) -> None:
        """Run the calls that wait for a task, until one of them keeps this one."""
        rest: Awaitable[None] | None = None
        try:
            while self._waiting and rest is None and not _is_cancelled():
                rest = _run_first_part(*self._waiting.popleft())
        finally:
            self._has_task = False
            if self._waiting:
                self._start_task()
        if rest is not None:
            await rest


def _is_cancelled() -> bool:
    """Whether a handler that has ended has cancelled the task that it ran in."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _run_first_part(run: Run, context: Context) -> Awaitable[None] | None:
    """Run a call until it waits for something, and return the rest of it; None if it has ended."""
    call = run()
    try:
        wanted = context.run(call.send, None)
    except StopIteration:
        return None
    return _run_rest(call, context, wanted)


@coroutine
def _run_rest(call: Coroutine[Any, Any, None], context: Context, wanted: Any) -> Generator[Any, Any, None]:
    """Do what `await` does, from the first wait on, in a context of its own."""
    try:
        while True:
            try:
                got = yield wanted
            except BaseException as raised:
                wanted = context.run(call.throw, raised)
            else:
                wanted = context.run(call.send, got)
    except StopIteration:
        return
