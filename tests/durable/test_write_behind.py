"""Writes behind the handler: what they make, and what is waited for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup

from cgworker.durable.write_behind import StartSoon, WriteBehind


def starting(tasks: TaskGroup) -> StartSoon:
    """What starts the writes."""

    def start(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        tasks.start_soon(work)

    return start


async def test_a_write_that_nobody_waits_for_makes_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step makes a write; most are over before somebody asks."""
    written: list[str] = []

    async def store() -> None:
        written.append("value")

    async def publish() -> None:
        written.append("record")

    def refuse() -> None:
        raise AssertionError("an event was made")

    async with anyio.create_task_group() as tasks:
        writes = WriteBehind(starting(tasks))
        with monkeypatch.context() as patched:
            patched.setattr(anyio, "Event", refuse)
            may_go_on = writes.begin(store, publish, is_written=True, max_behind=8)
            await may_go_on()
            while writes.under_way:
                await anyio.lowlevel.checkpoint()
            await writes.stored()
            await writes.over()
    assert written == ["value", "record"]


async def test_all_who_wait_for_a_write_go_on_when_it_is_over() -> None:
    """Several tasks may wait for one record."""
    may_publish, ended = anyio.Event(), 0

    async def store() -> None:
        await anyio.lowlevel.checkpoint()

    async def publish() -> None:
        await may_publish.wait()

    async with anyio.create_task_group() as tasks:
        writes = WriteBehind(starting(tasks))

        async def wait() -> None:
            nonlocal ended
            await writes.over()
            ended += 1

        writes.begin(store, publish)
        for _ in range(3):
            tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert ended == 0
        may_publish.set()
    assert ended == 3
