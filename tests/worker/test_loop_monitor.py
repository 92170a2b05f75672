"""Noticing that the event loop stood still."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import ExitStack

import anyio
import pytest

from cgworker.events import LoopBlocked
from cgworker.worker.loop_monitor import LoopMonitor


def a_handler_that_blocks() -> None:
    """Named in the log, while it blocks."""
    time.sleep(0.6)


async def test_who_blocks_the_loop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Renewals cannot be sent meanwhile: the author has to learn of it, and where."""
    told: list[LoopBlocked] = []
    with caplog.at_level(logging.WARNING, "cgworker"):
        async with anyio.create_task_group() as tasks:
            with LoopMonitor(blocked_seconds=0.2).notifying(told.append, tasks):
                await anyio.sleep(0.15)
                a_handler_that_blocks()
                await anyio.sleep(0.15)
    [blocked] = told
    assert blocked.seconds >= 0.4
    assert "a_handler_that_blocks" in blocked.stack
    assert "a_handler_that_blocks" in caplog.text


async def test_a_loop_that_runs_is_left_in_peace() -> None:
    """Waiting is not blocking."""
    told: list[LoopBlocked] = []
    async with anyio.create_task_group() as tasks:
        with LoopMonitor(blocked_seconds=0.5).notifying(told.append, tasks):
            await anyio.sleep(0.8)
    assert told == []


async def test_many_that_want_to_know_have_one_that_watches() -> None:
    """One thread for the loop, and everybody is told."""
    told: list[LoopBlocked] = []
    watch = LoopMonitor(blocked_seconds=0.2)
    async with anyio.create_task_group() as tasks:
        with watch.notifying(lambda each: told.append(each), tasks), watch.notifying(told.append, tasks):
            await anyio.sleep(0.15)
            assert _watching_threads() == 1
            a_handler_that_blocks()
            await anyio.sleep(0.15)
    assert len(told) == 2


async def test_the_watch_is_handed_on() -> None:
    """From the worker that came first to one that still runs."""
    told: list[LoopBlocked] = []
    watch = LoopMonitor(blocked_seconds=0.2)
    async with anyio.create_task_group() as first, anyio.create_task_group() as second:
        with ExitStack() as leaving:
            leaving.enter_context(watch.notifying(lambda _: None, first))
            with watch.notifying(told.append, second):
                await anyio.sleep(0.15)
                leaving.close()
                await anyio.sleep(0.15)
                a_handler_that_blocks()
                await anyio.sleep(0.15)
    assert len(told) == 1


def _watching_threads() -> int:
    return sum(thread.name == "cgworker-loop-watch" for thread in threading.enumerate())
