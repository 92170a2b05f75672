"""Commands as handlers, in whole stories: nothing leaks, nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process

from cgworker import (
    CommandHandler,
    Handler,
    KernelClient,
    Outcome,
    Turn,
    TurnRef,
    Worker,
    WorkerOptions,
)
from cgworker.errors import CommandNotFound
from cgworker.testing import LocalKernel
from tests.handlers.test_child import is_alive, until_gone
from tests.journeys.conftest import closed, working


async def test_a_command_that_vanishes_ends_the_worker_and_hands_its_turn_back(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """Claiming on would take every turn of the queue for nothing (difference 17)."""
    runtime = tmp_path / "runtime"
    runtime.write_text("#!/bin/sh\necho 1 > $CG_FINAL_FILE\n")
    runtime.chmod(0o755)
    async with await kernel.agent("desk") as desk:
        handler = CommandHandler([str(runtime)])
        worker = Worker(desk, handler, options=WorkerOptions(wait_seconds=5))

        @worker.middleware
        async def remove(turn: Turn, call_next: Handler) -> Outcome:
            runtime.unlink()
            return await call_next(turn)

        turn = await kernel.dispatch("desk", {})
        other = await kernel.dispatch("desk", {})
        with pytest.raises(CommandNotFound):
            await worker.run()
        assert [(await desk.turns.get(each)).state for each in (turn, other)] == ["queued", "queued"]


async def test_a_missing_command_is_refused_before_anything_is_claimed(kernel: LocalKernel) -> None:
    """By `once` and by `run`."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, CommandHandler(["/no/such/runtime"]))
        turn = await kernel.dispatch("desk", {})
        for work in (worker.once, worker.run):
            with pytest.raises(CommandNotFound, match="/no/such/runtime"):
                await work()
        assert (await desk.turns.get(turn)).state == "queued"
        assert kernel.faults.seen["claim"] == 0


async def test_progress_lines_become_records_in_order(kernel: LocalKernel) -> None:
    """Lines that are no JSON are left out; what was written just before the end is not."""
    script = (
        'for n in 1 2 3; do echo "{\\"n\\": $n}" >> $CG_PROGRESS_FILE; done; echo oops >> $CG_PROGRESS_FILE;'
        " printf '{\"half' >> $CG_PROGRESS_FILE; echo 1 > $CG_FINAL_FILE"
    )
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, CommandHandler(["sh", "-c", script]))
        turn = await kernel.dispatch("desk", {})
        await worker.once()
        await closed(desk, turn)
        records = [item async for item in desk.turns.records(turn)]
        assert [r.payload for r in records if r.record.record_role == "progress"] == [
            {"n": 1},
            {"n": 2},
            {"n": 3},
        ]


async def test_a_line_that_is_being_recorded_when_the_command_ends_stays_the_first(
    kernel: LocalKernel,
) -> None:
    """It is neither lost nor recorded after those that the command wrote at last."""
    script = "echo 1 >> $CG_PROGRESS_FILE; sleep 0.8; echo 2 >> $CG_PROGRESS_FILE; echo 1 > $CG_FINAL_FILE"
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, CommandHandler(["sh", "-c", script]))
        turn = await kernel.dispatch("desk", {})
        kernel.faults.delay("append", 1.2)
        await worker.once()
        records = [item async for item in desk.turns.records(turn)]
        assert [r.payload for r in records if r.record.record_role == "progress"] == [1, 2]


async def test_no_secret_gets_out_through_a_command(
    kernel: LocalKernel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The canary: a child that looks everywhere it can does not find the credential."""
    async with await kernel.agent("desk") as desk:
        [credential] = desk.secrets
        monkeypatch.setenv("CG_AGENT_CREDENTIAL_TOKEN", credential)
        monkeypatch.setenv("ELSEWHERE", f"prefix-{credential}")
        script = (
            f"(env; cat $CG_CONTEXT_FILE $CG_INPUT_FILE; ls -la $(dirname $CG_FINAL_FILE)) > {tmp_path}/seen;"
            f" cat {tmp_path}/secret; exit 1"
        )
        (tmp_path / "secret").write_text(credential + "\n")
        worker = Worker(desk, CommandHandler(["sh", "-c", script]))
        turn = await kernel.dispatch("desk", {})
        await worker.once()
        report = str((await closed(desk, turn)).final_payload)
        printed = "".join(capfd.readouterr())
        assert credential not in (tmp_path / "seen").read_text() + report + printed
        assert "***" in printed


# The guard cannot end a command that it was not told of yet: before that, the worker is not to be killed.
PROGRAM = """
import sys
from contextlib import contextmanager
from pathlib import Path
from cgworker import AgentRef, CommandHandler, KernelClient, Worker, WorkerOptions, run
from cgworker.handlers.guard import guard
url, project, token, pid_file, told = sys.argv[1:6]
watching = guard.watching
@contextmanager
def watching_and_saying_so(group, lease):
    with watching(group, lease):
        Path(told).touch()
        yield
guard.watching = watching_and_saying_so
kernel = KernelClient(url, agent=AgentRef(project_id=project, agent_id="desk"), token=token)
script = f"sh -c 'sleep 1000' & echo $! > {pid_file}.tmp; mv {pid_file}.tmp {pid_file}; wait"
run(Worker(kernel, CommandHandler(["sh", "-c", script]), options=WorkerOptions(interrupt_seconds=1)))
"""


@asynccontextmanager
async def another_process(kernel: LocalKernel, desk: KernelClient, folder: Path) -> AsyncIterator[Process]:
    """A worker in a process of its own, once its guarded command has left a grandchild; killed at the end."""
    pid_file, told = folder / "pid", folder / "told"
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        kernel.base_url,
        kernel.project_id,
        *desk.secrets,
        str(pid_file),
        str(told),
    ]
    env = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "TMPDIR": str(folder)}
    process = await anyio.open_process(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with anyio.fail_after(60):
            while not (pid_file.exists() and told.exists()):  # noqa: ASYNC110  # a grandchild's doing
                await anyio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.aclose()


async def attempt_of_the_next_worker(desk: KernelClient, turn: TurnRef, grandchild: int) -> object:
    """Which attempt another worker's is; the command of the one before must be gone when it begins."""
    worker = Worker(desk, options=WorkerOptions(wait_seconds=5))

    @worker.turn()
    async def handle(turn: Turn) -> int:
        assert not is_alive(grandchild)
        return turn.attempt

    async with working(worker):
        return (await closed(desk, turn)).final_payload


async def test_a_killed_workers_children_end_and_its_turn_runs_elsewhere(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """SIGKILL: the guard ends the process group, the lease ends by itself, the next worker goes on."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        async with another_process(kernel, desk, tmp_path) as process:
            process.send_signal(signal.SIGKILL)
            await process.wait()
            grandchild = int((tmp_path / "pid").read_text())
            await until_gone(grandchild)
            assert await attempt_of_the_next_worker(desk, turn, grandchild) == 2
        assert not [file async for file in anyio.Path(tmp_path).glob("cg_worker_*")]


async def test_a_paused_workers_command_does_not_run_on_when_another_has_the_turn(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """SIGSTOP of the worker alone: its guard ends the command with the lease."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        async with another_process(kernel, desk, tmp_path) as process:
            process.send_signal(signal.SIGSTOP)
            grandchild = int((tmp_path / "pid").read_text())
            assert is_alive(grandchild)
            assert await attempt_of_the_next_worker(desk, turn, grandchild) == 2
