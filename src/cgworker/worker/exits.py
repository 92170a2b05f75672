"""Keep the event loop running when a task that a handler made calls `sys.exit()`.

asyncio gives the `SystemExit` of a task to the code that awaits the task, and raises it out of the event loop
too: one turn would end its worker, and after a restart the next one. trio only gives it to that code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from cgworker.events import is_marked, logger


def loop_factory_surviving_exits(
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None, end: Callable[[], None]
) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return a factory of asyncio loops that run on after a `SystemExit` of a handler's task.

    Any other `SystemExit`, such as that of a callback, and `KeyboardInterrupt` (Ctrl-C) call `end`, and are
    raised when the work has ended. Raised at once, they would leave no time to hand back the turns held.

    Args:
        new_loop: makes the loop; None is asyncio's own.
        end: makes the work end soon; called in the loop.
    """

    def make() -> asyncio.AbstractEventLoop:
        loop = (new_loop or asyncio.new_event_loop)()
        handlers_tasks = _handlers_tasks_of(loop)
        run_until_complete = loop.run_until_complete

        def run(future: Any) -> Any:
            running = asyncio.ensure_future(future, loop=loop)
            leaving: BaseException | None = None
            while not running.done():
                try:
                    run_until_complete(running)
                except (SystemExit, KeyboardInterrupt) as raised:
                    if isinstance(raised, SystemExit) and _was_raised_by_one_of(raised, handlers_tasks):
                        logger.warning("a task of a handler called sys.exit(%s): the worker goes on", raised)
                    elif leaving is None:
                        leaving = raised
                        loop.call_soon(end)
                    else:
                        raise
            if leaving is not None:
                raise leaving
            return running.result()

        loop.run_until_complete = run  # type: ignore[method-assign]
        return loop

    return make


def _handlers_tasks_of(loop: asyncio.AbstractEventLoop) -> Collection[asyncio.Future[Any]]:
    """Return a live collection of the handlers' tasks: those that run, and those that have just ended."""
    tasks: set[asyncio.Future[Any]] = set()
    make_task = loop.get_task_factory() or _make_task

    def forget(task: asyncio.Future[Any]) -> None:
        loop.call_soon(tasks.discard, task)  # uvloop runs the loop once more before it ends

    def make_and_mark(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        task = make_task(loop, coroutine, **options)
        if is_marked():
            tasks.add(task)
            task.add_done_callback(forget)
        return task

    loop.set_task_factory(make_and_mark)
    return tasks


def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(coroutine, loop=loop, **options)


def _was_raised_by_one_of(raised: SystemExit, tasks: Collection[asyncio.Future[Any]]) -> bool:
    return any(task.done() and not task.cancelled() and task.exception() is raised for task in tasks)
