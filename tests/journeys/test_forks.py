"""Handlers that fork: their children are ended by SIGTERM, and no child of theirs is a second worker."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from cgworker.testing import LocalKernel

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="only POSIX forks")

ANSWERS: dict[str, dict[str, Any]] = {
    "end_a_child": {"exit": -15},
    "use_a_pool": {"squares": [0, 1, 4, 9]},
    "break_a_pool": {"broken": True},
    "come_back_from_a_fork": {"exit": 1},
}


@asynccontextmanager
async def _forking_worker(
    kernel: LocalKernel, backend: str, folder: Path, *, sync: bool
) -> AsyncIterator[anyio.abc.Process]:
    desk = await kernel.agent("desk")
    env = {
        **os.environ,
        "BASE_URL": kernel.base_url,
        "PROJECT": kernel.project_id,
        "TOKEN": desk.secrets[0],
        "OUTBOX": str(folder / "outbox"),
        "SYNC": str(int(sync)),
    }
    command = [sys.executable, "-m", "tests.journeys.forking", backend]
    async with await anyio.open_process(command, env=env, stdin=None, stdout=None, stderr=None) as process:
        yield process
        process.terminate()
        with anyio.fail_after(60):
            assert await process.wait() == 0


@pytest.mark.parametrize("where", ["loop", "thread", "sync"])
async def test_a_handlers_children_end_by_sigterm_and_the_worker_goes_on(
    kernel: LocalKernel, anyio_backend: str, where: str, tmp_path: Path
) -> None:
    """Else the child lives on, and the worker drains by itself or its turn runs for ever."""
    async with _forking_worker(kernel, anyio_backend, tmp_path, sync=where == "sync") as worker:
        for way, answer in ANSWERS.items():
            if where == "thread" and way == "come_back_from_a_fork":
                continue  # where a thread of the handler's own goes on, it is not ours to know
            turn = await kernel.dispatch("desk", {"way": way, "where": where})
            done = await kernel.closed(turn, within_seconds=40)
            assert (way, done.final_payload) == (way, answer)
        assert worker.returncode is None
