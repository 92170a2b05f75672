"""Handlers whose own tasks call `sys.exit()`: the turn fails, and no worker nor other turn."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest

from cgworker.testing import LocalKernel
from tests.journeys.conftest import history, in_state

WAYS = ("in_a_task", "in_a_task_group", "in_anyios_task_group", "in_a_tasks_task", "in_a_thread")


@asynccontextmanager
async def _worker(kernel: LocalKernel, loop: str, folder: Path) -> AsyncIterator[anyio.abc.Process]:
    desk = await kernel.agent("desk", capacity=2)
    env = {
        **os.environ,
        "BASE_URL": kernel.base_url,
        "PROJECT": kernel.project_id,
        "TOKEN": desk.secrets[0],
        "OUTBOX": str(folder / "outbox"),
    }
    command = [sys.executable, "-m", "tests.journeys.exiting", loop]
    async with await anyio.open_process(command, env=env, stdin=None, stdout=None, stderr=None) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_exit_in_a_handlers_own_task_fails_its_turn_alone(
    kernel: LocalKernel, loop: str, tmp_path: Path
) -> None:
    """asyncio ends its loop by it, and would end the worker, and whichever worker takes the turn after it."""
    async with _worker(kernel, loop, tmp_path) as worker:
        for way in WAYS if loop != "trio" else ("in_anyios_task_group", "in_a_thread"):
            beside = await kernel.dispatch("desk", {})
            turn = await kernel.dispatch("desk", {"way": way, "raise": "SystemExit"})
            failed = await kernel.closed(turn, within_seconds=20)
            assert (failed.outcome, failed.final_payload["error"]) == ("failed", "handler_error"), way
            assert (await kernel.closed(beside, within_seconds=20)).outcome == "succeeded", way
        assert worker.returncode is None
        worker.terminate()
        with anyio.fail_after(60):
            assert await worker.wait() == 0


@pytest.mark.parametrize(
    ("way", "raised"), [("in_a_task", "KeyboardInterrupt"), ("in_a_callback", "SystemExit")]
)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_ends_the_event_loop_hands_back_what_is_held(
    kernel: LocalKernel, loop: str, way: str, raised: str, tmp_path: Path
) -> None:
    """A Ctrl-C, or an exit that no task of a handler's has raised: the exit status says failure."""
    async with _worker(kernel, loop, tmp_path) as worker:
        desk = await kernel.agent("desk")
        beside = await kernel.dispatch("desk", {})
        await in_state(desk, beside, "running")
        turn = await kernel.dispatch("desk", {"way": way, "raise": raised})
        with anyio.fail_after(60):
            assert await worker.wait() != 0
        for each in (beside, turn):
            assert (await history(desk, each)).count("turn.claimed") == 1
            assert (await desk.turns.get(each)).state == "queued"
