"""Handlers run in the tasks of their attempts; what each of them sees is as if it had a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, MutableMapping
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import anyio
import pytest

from cgworker.worker.handler_tasks import HandlerTasks

_said: ContextVar[str] = ContextVar("_said", default="nothing")


async def run_all(
    *calls: Callable[[], Coroutine[Any, Any, None]],
    goes_on: Callable[[], Coroutine[Any, Any, None]] = anyio.lowlevel.checkpoint,
) -> None:
    """Call handlers from attempts that are started at one moment, and wait until all have ended."""

    async def attempt(call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await handlers.call(call)
        await goes_on()

    async with anyio.create_task_group() as tasks:
        handlers = HandlerTasks(tasks)
        for call in calls:
            handlers.start_soon(attempt, call)


class Noted:
    """Calls, and the tasks that they run in."""

    def __init__(self) -> None:
        self.tasks: dict[str, list[Any]] = {}

    def call(self, name: str, *waits: Callable[[], Coroutine[Any, Any, None]]) -> Any:
        async def run() -> None:
            self.tasks[name] = [anyio.get_current_task()]
            for wait in waits:
                await wait()
                self.tasks[name].append(anyio.get_current_task())

        return run


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_one_that_waits_for_nothing_runs_in_the_task_of_its_attempt() -> None:
    tasks = list[int]()

    async def note() -> None:
        tasks.append(id(current_task()))  # the task itself would be a reference to it

    await run_all(note, goes_on=note)
    assert len(tasks) == 2
    assert tasks[0] == tasks[1]


async def test_one_that_waits_keeps_its_task_and_its_attempt_goes_on() -> None:
    noted, goes_on = Noted(), anyio.Event()

    async def go_on() -> None:
        goes_on.set()

    await run_all(
        noted.call("handler", goes_on.wait, anyio.lowlevel.checkpoint, goes_on.wait),
        goes_on=noted.call("attempt", go_on, anyio.lowlevel.checkpoint),
    )
    assert len({task.id for task in noted.tasks["handler"]}) == 1
    assert len({task.id for task in noted.tasks["attempt"]}) == 1
    assert noted.tasks["handler"][0].id != noted.tasks["attempt"][0].id


async def test_an_attempt_within_a_scope_stays_in_its_task() -> None:
    """A task group or a cancel scope belongs to the task that it was entered in."""
    noted, goes_on = Noted(), anyio.Event()

    async def attempt() -> None:
        task = anyio.get_current_task()
        with anyio.fail_after(5):
            await handlers.call(noted.call("handler", goes_on.wait), in_own_task=True)
            assert anyio.get_current_task() == task
            goes_on.set()
        assert noted.tasks.get("handler") != [task]

    async with anyio.create_task_group() as tasks:
        handlers = HandlerTasks(tasks)
        handlers.start_soon(attempt)
    assert len(noted.tasks["handler"]) == 2


async def test_an_attempt_keeps_its_context_when_it_leaves_its_task() -> None:
    found: list[str] = []

    async def attempt() -> None:
        before = _said.set("by the attempt")
        await handlers.call(anyio.lowlevel.checkpoint)
        found.append(_said.get())
        _said.reset(before)
        found.append(_said.get())

    _said.set("outside")
    async with anyio.create_task_group() as tasks:
        handlers = HandlerTasks(tasks)
        handlers.start_soon(attempt)
    assert found == ["by the attempt", "outside"]


async def test_what_one_sets_in_its_context_no_other_sees() -> None:
    found: list[str] = []

    def saying(word: str, *, waits: bool) -> Any:
        async def run() -> None:
            found.append(_said.get())
            _said.set(word)
            if waits:
                await anyio.lowlevel.checkpoint()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(looking)
            found.append(_said.get())

        return run

    async def looking() -> None:
        found.append(_said.get())

    _said.set("before")
    await run_all(saying("a", waits=False), saying("b", waits=True))
    assert sorted(found) == ["a", "a", "b", "b", "before", "before"]
    assert _said.get() == "before"


async def test_scopes_and_timeouts_hold_over_waits() -> None:
    """They belong to the task that they were entered in."""
    passed: list[str] = []

    async def run() -> None:
        with anyio.CancelScope() as scope, anyio.CancelScope():
            scope.cancel()
            await anyio.sleep_forever()
        passed.append("cancelled")
        with pytest.raises(TimeoutError), anyio.fail_after(0.01):
            await anyio.sleep_forever()
        passed.append("timed out")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.lowlevel.checkpoint)
        passed.append("waited")

    await run_all(run, run)
    assert sorted(passed) == ["cancelled"] * 2 + ["timed out"] * 2 + ["waited"] * 2


async def test_a_cancelled_group_ends_those_that_wait() -> None:
    """The handlers, and their attempts."""
    ended: list[str] = []

    async def attempt() -> None:
        await handlers.call(wait)
        await wait()

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("one")

    async with anyio.create_task_group() as tasks:
        handlers = HandlerTasks(tasks)
        for _ in range(3):
            handlers.start_soon(attempt)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert ended == ["one"] * 6


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_who_cancels_its_own_task_cancels_no_other() -> None:
    """Whether it waits for something afterwards, which then raises, or ends."""
    noted, cancelled = Noted(), list[str]()

    async def cancel_and_end() -> None:
        current_task().cancel()

    async def cancel_and_wait() -> None:
        current_task().cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            cancelled.append("waiting")

    await run_all(
        cancel_and_end, noted.call("a"), cancel_and_wait, noted.call("b", anyio.lowlevel.checkpoint)
    )
    assert cancelled == ["waiting"]
    assert noted.tasks.keys() == {"a", "b"}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_one_that_raises_keeps_no_other_from_its_turn() -> None:
    """It is a fault of ours: what a handler raises is caught before."""
    noted = Noted()

    async def fail() -> None:
        raise RuntimeError("broken")

    with pytest.raises(ExceptionGroup):
        await run_all(fail, noted.call("a"))
    assert noted.tasks.keys() == {"a"}


def current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_who_cancels_its_task_after_its_end_cancels_no_other() -> None:
    """A timeout written by hand, whose timer nobody has cancelled."""
    noted, passed = Noted(), list[str]()

    async def leave_a_timer() -> None:
        asyncio.get_running_loop().call_later(0.01, current_task().cancel)

    async def wait_longer() -> None:
        await anyio.sleep(0.05)  # beyond the timer
        passed.append("waited")

    await run_all(leave_a_timer, noted.call("another"), goes_on=wait_longer)
    assert passed == ["waited"] * 2


@pytest.mark.parametrize("kept", [dict[Any, str](), WeakKeyDictionary[Any, str]()])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_is_kept_for_a_task_is_not_for_the_next_handler(kept: MutableMapping[Any, str]) -> None:
    """A session of SQLAlchemy whose `scopefunc` is the current task."""
    handlers: HandlerTasks

    async def find_or_keep() -> None:
        found.append(kept.setdefault(current_task(), f"the session of handler {len(found)}"))

    async def attempts() -> None:
        await handlers.call(find_or_keep)
        await handlers.call(find_or_keep)

    found: list[str] = []
    async with anyio.create_task_group() as tasks:
        handlers = HandlerTasks(tasks)
        handlers.start_soon(attempts)
    assert found == ["the session of handler 0", "the session of handler 1"]
