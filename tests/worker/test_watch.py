"""Noticing that the event loop stood still."""

from __future__ import annotations

import logging
import time

import anyio
import pytest

from cgworker.events import LoopBlocked
from cgworker.worker.watch import LoopWatch


def a_handler_that_blocks() -> None:
    """Named in the log, while it blocks."""
    time.sleep(0.6)


async def test_who_blocks_the_loop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Renewals cannot be sent meanwhile: the author has to learn of it, and where."""
    told: list[LoopBlocked] = []
    with caplog.at_level(logging.WARNING, "cgworker"):
        async with LoopWatch(told.append, blocked_seconds=0.2).watching():
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
    async with LoopWatch(told.append, blocked_seconds=0.5).watching():
        await anyio.sleep(0.8)
    assert told == []
