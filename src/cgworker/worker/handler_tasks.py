"""Run handlers in the tasks of their attempts, unless they wait for something.

A task for each handler, and the two wake-ups that it takes, are a good part of what a short turn costs a
worker. So an attempt calls its handler in its own task. A handler that waits for something keeps this task,
and the attempt goes on in another one. So a handler is in one task from its begin to its end, and alone in it
meanwhile, and one that does not end delays no attempt. An attempt also leaves a task that something of its
handler still refers to at the end: a forgotten timer may cancel it, and what is kept for this task, such as a
session of a database, is not for the next handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from sys import getrefcount
from types import coroutine
from typing import Any, TypeAlias
from weakref import getweakrefcount

import anyio.abc
import sniffio
from attrs import frozen

Run: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Makes a call, such as that of a handler."""
Work: TypeAlias = Coroutine[Any, Any, None]
"""What attempts do in a task, one after the other."""


@frozen
class _KeptBy:
    """Work yields this to leave its task to a handler; None if that has ended, but may cancel the task."""

    handler: Awaitable[None] | None


class HandlerTasks:
    """Starts the tasks of attempts, and calls their handlers.

    Args:
        tasks: runs the tasks.
        shares: whether attempts are started by `start_soon`, so that they can leave their task to a
            handler; if not, each handler has a task of its own.
    """

    def __init__(self, tasks: anyio.abc.TaskGroup, *, shares: bool = True) -> None:
        self._tasks = tasks
        self._shares = shares and sniffio.current_async_library() == "asyncio"  # trio cannot do that

    def start_soon(self, work: Callable[..., Work], *arguments: Any) -> None:
        """Start a task for attempts.

        Args:
            work: what they do; handlers are called there with `call`.
            arguments: its arguments.
        """
        if self._shares:
            self._tasks.start_soon(self._run, work(*arguments), copy_context())
        else:
            self._tasks.start_soon(work, *arguments)

    def start_beside(self, work: Run) -> None:
        """Start a task for work that calls no handler, such as writing what a step has made.

        Args:
            work: makes the call.
        """
        self._tasks.start_soon(work)

    async def call(self, run: Run, *, in_own_task: bool = False) -> None:
        """Call a handler, in a copy of the current context, and return when it has ended or waits.

        Args:
            run: makes the call.
            in_own_task: whether the caller must stay in its task, as within a task group or a cancel scope.
        """
        if in_own_task or not self._shares:
            self._tasks.start_soon(run)
            return
        task = asyncio.current_task()
        assert task is not None  # attempts run in tasks
        references = getrefcount(task) + getweakrefcount(task)
        rest = _run_first_part(run(), copy_context())
        if (
            rest is not None
            or task.cancelling() > 0
            or getrefcount(task) + getweakrefcount(task) > references
        ):
            await _leave_task_to(rest)

    async def _run(self, work: Work, context: Context) -> None:
        """Run work until it ends, or leaves this task to a handler."""
        left = await _run_until_left(work, context)
        if left is not None:
            self._tasks.start_soon(self._run, work, context)
            if left.handler is not None:
                await left.handler


@coroutine
def _run_until_left(work: Work, context: Context) -> Generator[Any, Any, _KeptBy | None]:
    """Do what `await` does, in a context of the work's own; None if the work has ended."""
    try:
        wanted = context.run(work.send, None)
        while not isinstance(wanted, _KeptBy):
            try:
                got = yield wanted
            except BaseException as raised:
                wanted = context.run(work.throw, raised)
            else:
                wanted = context.run(work.send, got)
    except StopIteration:
        return None
    return wanted


@coroutine
def _leave_task_to(handler: Awaitable[None] | None) -> Generator[Any, Any, None]:
    """Go on in another task."""
    yield _KeptBy(handler)


def _run_first_part(call: Work, context: Context) -> Awaitable[None] | None:
    """Run a call until it waits for something, and return the rest of it; None if it has ended."""
    try:
        wanted = context.run(call.send, None)
    except StopIteration:
        return None
    return _run_rest(call, context, wanted)


@coroutine
def _run_rest(call: Work, context: Context, wanted: Any) -> Generator[Any, Any, None]:
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
