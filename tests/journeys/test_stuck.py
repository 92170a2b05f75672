"""A process that is a worker's ends in time, whatever its handlers do; a program around a worker goes on."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import anyio
import pytest

from cgworker import Turn, Worker, WorkerOptions
from cgworker.testing import LocalKernel, local_kernel
from tests.journeys.conftest import closed, in_state

STUCK = [  # the handler, what ends the worker, the exit status, and what is then true of its turn
    ("wait_in_thread", "sigterm", 0, "queued"),
    ("wait_in_thread", "on_stuck", 1, "closed"),
    ("wait_shielded", "sigterm", 0, "queued"),
    ("wait_shielded", "on_stuck", 1, "closed"),
    ("wait_in_a_thread_of_its_own", "sigterm", 0, "queued"),
    ("block_the_loop", "sigterm", 1, "running"),
]


async def test_a_process_with_a_stuck_handler_ends_in_time(anyio_backend: str, tmp_path: Path) -> None:
    """Status 0 if what it held was settled or handed back; 1 if not, or if `on_stuck="drain"` ended it."""
    ways = [each for each in STUCK if anyio_backend == "asyncio" or "of_its_own" not in each[0]]
    async with local_kernel(lease_seconds=30) as kernel, anyio.create_task_group() as together:
        await kernel.agent("requester")
        for number, (way, ended_by, status, state) in enumerate(ways):
            agent, folder = f"desk-{number}", tmp_path / str(number)
            words = [way, ended_by, anyio_backend]
            together.start_soon(_end_stuck, kernel, agent, folder, words, status, state)


async def _end_stuck(
    kernel: LocalKernel, agent: str, folder: Path, words: list[str], status: int, state: str
) -> None:
    desk = await kernel.agent(agent)
    env = {
        **os.environ,
        "BASE_URL": kernel.base_url,
        "PROJECT": kernel.project_id,
        "AGENT": agent,
        "TOKEN": desk.secrets[0],
        "OUTBOX": str(folder),
    }
    turn = await kernel.dispatch(agent, {})
    command = [sys.executable, "-m", "tests.journeys.stuck", *words]
    async with await anyio.open_process(command, env=env, stdin=None, stdout=None, stderr=None) as process:
        try:
            await in_state(desk, turn, "running")
            await anyio.sleep(0.5)  # from the claim to the handler
            if words[1] == "sigterm":
                process.terminate()
            with anyio.fail_after(60):
                assert (words, await process.wait()) == (words, status)
        finally:
            if process.returncode is None:
                process.kill()
    assert (words, (await desk.turns.get(turn)).state) == (words, state)


async def test_a_program_around_a_worker_is_not_ended_with_it(kernel: LocalKernel) -> None:
    """The worker tells that it was ended by a stuck handler; what to do is the program's to say."""
    may_end = threading.Event()
    async with await kernel.agent("desk") as desk:
        options = WorkerOptions(
            wait_seconds=5, time_limit_seconds=0.1, interrupt_seconds=0.1, on_stuck="drain"
        )

        def handle(_: Turn) -> None:
            may_end.wait()

        worker = Worker(desk, handle, options=options)
        turn = await kernel.dispatch("desk", {})
        try:
            with anyio.fail_after(60):
                await worker.run()
        finally:
            may_end.set()
        assert worker.is_ended_by_stuck
        assert not worker.has_unsettled
        assert (await closed(desk, turn)).outcome == "failed"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_command_that_ends_by_itself_keeps_its_exit_status(anyio_backend: str) -> None:
    """Where a thread of the program goes on after the last line, the status is the program's own."""
    code = (
        "import threading, sys\n"
        "from cgworker.worker.process import exit\n"
        "with exit.ending_in_time():\n"
        "    threading.Thread(target=threading.Event().wait).start()\n"
        "exit.set_exit_status(7)\n"
        "sys.exit(7)\n"
    )
    assert anyio_backend == "asyncio"
    with anyio.fail_after(60):
        done = await anyio.run_process([sys.executable, "-c", code], check=False)
    assert done.returncode == 7
    assert b"the process ends now, with status 7" in done.stderr
