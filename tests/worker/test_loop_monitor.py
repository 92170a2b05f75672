"""Noticing that the event loop stood still."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import anyio
import pytest

from cgworker.events import LoopBlocked
from cgworker.worker.loop_monitor import LoopMonitor


class Blocker:
    """Blocks the loop until the log names it. A busy machine blocks it as well, and that is told too."""

    def __init__(self) -> None:
        self._named = threading.Event()

    def note(self, record: logging.LogRecord) -> bool:
        """Look for its name in what is logged."""
        if "a_handler_that_blocks" in record.getMessage():
            self._named.set()
        return True

    async def block(self, *told: list[LoopBlocked]) -> list[LoopBlocked]:
        """Block, and return what is told of it, once each of these lists has that."""
        await _until_watched()
        with anyio.fail_after(60):
            while not self._named.is_set():
                self.a_handler_that_blocks()
                await anyio.sleep(0.15)  # the loop is free in between, so that each block is one
            while not all(map(_of_handler, told)):  # noqa: ASYNC110  # the end of a block has no other event
                await anyio.sleep(0.02)
        return [each for those in told for each in _of_handler(those)]

    def a_handler_that_blocks(self) -> None:
        """Named in the log, while it blocks."""
        self._named.wait(5)
        time.sleep(0.2)


def _of_handler(told: list[LoopBlocked]) -> list[LoopBlocked]:
    return [each for each in told if "a_handler_that_blocks" in each.stack]


@pytest.fixture
def blocker() -> Iterator[Blocker]:
    blocker, logger = Blocker(), logging.getLogger("cgworker")
    logger.addFilter(blocker.note)
    yield blocker
    logger.removeFilter(blocker.note)


async def test_who_blocks_the_loop_is_named(caplog: pytest.LogCaptureFixture, blocker: Blocker) -> None:
    """Renewals cannot be sent meanwhile: the author has to learn of it, and where."""
    told: list[LoopBlocked] = []
    with caplog.at_level(logging.WARNING, "cgworker"):
        async with anyio.create_task_group() as tasks:
            with LoopMonitor(blocked_seconds=0.2).notifying(told.append, tasks):
                [blocked] = await blocker.block(told)
    assert blocked.seconds >= 0.4
    assert "a_handler_that_blocks" in caplog.text


async def test_a_loop_that_runs_is_left_in_peace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting is not blocking. The clock stops with the loop, since a busy machine stops that."""
    told: list[LoopBlocked] = []
    passed = 0.0
    monkeypatch.setattr("cgworker.worker.loop_monitor.monotonic", lambda: passed)
    async with anyio.create_task_group() as tasks:
        with LoopMonitor(blocked_seconds=0.5).notifying(told.append, tasks):
            for _ in range(40):
                await anyio.sleep(0.02)
                passed += 0.02
    assert told == []


async def test_many_that_want_to_know_have_one_that_watches(blocker: Blocker) -> None:
    """One thread for the loop, and everybody is told."""
    one: list[LoopBlocked] = []
    other: list[LoopBlocked] = []
    watch = LoopMonitor(blocked_seconds=0.2)
    async with anyio.create_task_group() as tasks:
        with watch.notifying(one.append, tasks), watch.notifying(other.append, tasks):
            assert len(await blocker.block(one, other)) == 2
            assert len(_watching()) == 1


async def test_the_watch_is_handed_on(blocker: Blocker) -> None:
    """From the worker that came first to one that still runs."""
    told: list[LoopBlocked] = []
    watch = LoopMonitor(blocked_seconds=0.2)
    async with anyio.create_task_group() as first, anyio.create_task_group() as second:
        with ExitStack() as leaving:
            leaving.enter_context(watch.notifying(lambda _: None, first))
            with watch.notifying(told.append, second):
                before = await _until_watched()
                leaving.close()
                await _until_watched(besides=before)
                assert len(await blocker.block(told)) == 1


async def _until_watched(besides: frozenset[threading.Thread] = frozenset()) -> frozenset[threading.Thread]:
    """Wait until a thread watches the loop that is none of these, and return those that do."""
    with anyio.fail_after(60):
        while not _watching() - besides:  # noqa: ASYNC110  # a thread that begins tells nobody
            await anyio.sleep(0.02)
    return _watching()


def _watching() -> frozenset[threading.Thread]:
    return frozenset(thread for thread in threading.enumerate() if thread.name == "cgworker-loop-watch")
