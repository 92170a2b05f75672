"""One crash: what the kernel does meanwhile, where the worker dies, and what has to be true afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
from attrs import frozen

from cgworker import AgentRef, FolderStore, KernelClient, Turn, TurnRef, Worker, WorkerOptions
from cgworker.testing import LocalKernel
from cgworker.testing.faults import Faults
from cgworker.worker.outbox.outbox import Outbox
from tests.crash.program import AGENTS_STEPS, agent
from tests.warm import warm_python

_PROGRAM = Path(__file__).with_name("program.py")
_SECONDS = 60

STORIES: Mapping[str, Callable[[Faults], None]] = {
    "answered": lambda _: None,
    "put off": lambda faults: faults.answer("finish", 503),
    "request lost": lambda faults: faults.drop_request("finish"),
    "answer lost": lambda faults: faults.drop_response("finish"),
}
"""What happens to the worker's first request to finish its turn."""


@frozen
class Crash:
    """What is true after a worker was killed.

    Attributes:
        ran: whether its handler had returned.
        is_whole: whether it was not killed, since it had fewer steps than that.
        step_count: how many it had then; else 0.
        kernel_has_it: whether the turn was closed.
        disk_has_it: whether the result was in the outbox.
        asked: how many requests had come that finish the turn or read it back.
    """

    ran: bool
    is_whole: bool
    step_count: int
    kernel_has_it: bool
    disk_has_it: bool
    asked: int


async def crash(kernel: LocalKernel, story: str, when: str, step: int) -> Crash:
    """Have a worker killed at a step, let another one go on, and check what has to be true.

    Args:
        kernel: a kernel of short leases, with a project for this crash alone.
        story: one of `STORIES`.
        when: when results are stored, `WorkerOptions.outbox`.
        step: the number of the step, from 1.

    Raises:
        AssertionError: a result was lost, a handler ran again without need, or a turn was closed twice.
    """
    where = f"{story}, {when}, step {step}"
    with tempfile.TemporaryDirectory(prefix="cg-crash-") as folder:
        runs, outbox = Path(folder) / "runs", Path(folder) / "outbox"
        async with await kernel.agent("desk") as desk, await kernel.agent("reader") as reader:
            agent = AgentRef(project_id=kernel.project_id, agent_id="desk")
            turn = await kernel.dispatch("desk", {})
            STORIES[story](kernel.faults)
            await _run_and_kill(kernel, desk, runs, outbox, when, step)
            asked = kernel.faults.seen["finish"] + kernel.faults.seen["get"]
            kernel.faults.clear()
            said = runs.read_text().splitlines() if runs.exists() else []
            snapshot = await reader.turns.get(turn)
            count = int(said[-1].split()[1]) if said[-1:] != ["killed"] and said else 0
            found = Crash(
                ran="killed" in said,
                is_whole=count > 0,
                step_count=count,
                kernel_has_it=snapshot.state == "closed",
                disk_has_it=any(Outbox(outbox, max_bytes=2**20).waiting(desk.base_url, agent)),
                asked=asked,
            )
            check_promise(found, when, where)
            await _follow(kernel, desk, turn, runs, outbox, snapshot.state)
            await _check_end(reader, turn, runs.read_text().split(), found, where)
    return found


async def crash_agent(kernel: LocalKernel, step: int) -> int:
    """Have a worker killed at a step of keeping private steps, let another one go on, and check the promise.

    Args:
        kernel: a kernel with a project for this crash alone.
        step: the number of the step, from 1.

    Returns:
        How many steps there were if the worker was not killed; else 0.

    Raises:
        AssertionError: a private step was made again after the next one had begun, or its value was lost.
    """
    with tempfile.TemporaryDirectory(prefix="cg-crash-") as folder:
        runs, outbox = Path(folder) / "runs", Path(folder) / "outbox"
        async with await kernel.agent("desk") as desk:
            turn = await kernel.dispatch("desk", {})
            await _run_and_kill(kernel, desk, runs, outbox, "agent", step)
            begun = runs.read_text().splitlines()
            if begun[-1].startswith("steps"):
                return int(begun[-1].split()[1])
            if (await desk.turns.get(turn)).state == "closed":
                return 0  # its values stay: the pages say so
            await kernel.faults.steal_lease(turn)
            store = FolderStore(Path(folder) / "cgworker" / "private")
            options = WorkerOptions(outbox_path=outbox, private_store=store)
            worker = Worker(desk, options=options)

            @worker.turn()
            async def go_on(turn: Turn) -> list[str]:
                return await agent(turn, str(runs))

            with anyio.fail_after(_SECONDS):
                while (found := await desk.turns.get(turn)).state != "closed":
                    await worker.once(wait_seconds=1)
            made = runs.read_text().splitlines()
            where = f"agent, step {step}: {made}"
            assert found.outcome == "succeeded", f"{where}: {found}"
            again = made[len(begun) :]
            assert again in ([*AGENTS_STEPS[len(begun) - 1 :]], [*AGENTS_STEPS[len(begun) :]]), where
            kept = [value.endswith(f"by {os.getpid()}") for value in found.final_payload]
            assert kept == [key in again for key in AGENTS_STEPS], f"{where}: {found.final_payload}"
            assert not [path for path in store.folder.rglob("*") if path.is_file()], where
    return 0


def check_promise(found: Crash, when: str, where: str) -> None:
    """Check what the pages say of the moment of the crash."""
    safe = found.kernel_has_it or found.disk_has_it
    most_unsafe = 0 if when == "before" else 1
    assert found.ran, f"{where}: the handler did not run"
    assert safe or found.asked <= most_unsafe, f"{where}: {found.asked} requests, and nobody has the result"
    assert safe or not found.is_whole, f"{where}: the worker has ended, and nobody has the result"
    assert not (found.is_whole and found.disk_has_it and found.kernel_has_it), f"{where}: the file stayed"


async def _run_and_kill(
    kernel: LocalKernel, desk: KernelClient, runs: Path, outbox: Path, when: str, step: int
) -> None:
    [token] = desk.secrets
    words = [kernel.base_url, kernel.project_id, token, str(runs), str(outbox), when, str(step)]
    with anyio.fail_after(_SECONDS):
        done = await anyio.run_process(
            [warm_python(), str(_PROGRAM), *words],
            stdout=subprocess.DEVNULL,
            stderr=sys.stderr,
            check=False,
            env={**os.environ, "XDG_STATE_HOME": str(outbox.parent)},
        )
    assert done.returncode in (0, -9), done.returncode


async def _follow(
    kernel: LocalKernel, desk: KernelClient, turn: TurnRef, runs: Path, outbox: Path, state: str
) -> None:
    """Let the next worker with the same outbox have the turn, unless it is closed."""
    if state == "closed":
        return

    async def handle(turn: Turn) -> dict[str, Any]:
        with runs.open("a") as file:
            file.write("next\n")
        return {"by": "the next one", "attempt": turn.attempt}

    await kernel.faults.steal_lease(turn)
    worker = Worker(desk, handle, options=WorkerOptions(outbox_path=outbox))
    with anyio.fail_after(_SECONDS):
        while (await desk.turns.get(turn)).state != "closed":
            await worker.once(wait_seconds=1)


async def _check_end(reader: KernelClient, turn: TurnRef, said: list[str], found: Crash, where: str) -> None:
    """Check that the turn is closed once, by the run whose result the kernel or the disk had."""
    snapshot = await reader.turns.get(turn)
    events = [event.event_type for event in (await reader.turns.feed(turn)).items]
    payload: Any = snapshot.final_payload
    safe = found.kernel_has_it or found.disk_has_it
    assert snapshot.outcome == "succeeded", f"{where}: {snapshot}"
    assert events.count("turn.finished") == 1, f"{where}: {events}"
    assert payload["by"] == ("the killed one" if safe else "the next one"), f"{where}: {payload}"
    ran_again = "next" in said
    assert ran_again is not safe, f"{where}: the handler ran {'again' if ran_again else 'once'}"
