"""The runtimes under examples/ keep the whole command contract, in each language, at a real kernel."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import CommandHandler, KernelClient, ResidentCommandHandler, TurnRef, Worker, WorkerOptions
from cgworker.testing import LocalKernel, local_kernel
from tests.journeys.conftest import closed, in_state, working

RUNTIMES = Path(__file__).parent.parent / "examples" / "runtimes"
COMMANDS = {
    "bash": ("bash", str(RUNTIMES / "runtime.sh")),
    "node": ("node", str(RUNTIMES / "runtime.mjs")),
    "python": (sys.executable, str(RUNTIMES / "runtime.py")),
    "resident bash": ("bash", str(RUNTIMES / "resident" / "resident.sh")),
    "resident node": ("node", str(RUNTIMES / "resident" / "resident.mjs")),
    "resident python": (sys.executable, str(RUNTIMES / "resident" / "resident.py")),
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def kernel() -> AsyncIterator[LocalKernel]:
    async with local_kernel(lease_seconds=5.0) as kernel:
        yield kernel


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Each language in turn; without node its runtime cannot be shown to work, and that is said aloud."""
    found: tuple[str, ...] = COMMANDS[request.param]
    if shutil.which(found[0]) is None and found[0] == "node":
        warnings.warn("node is not on the PATH: its example runtime is NOT tested here", stacklevel=1)
        pytest.skip("node is not on the PATH")
    return found


@pytest.fixture
async def desk(
    kernel: LocalKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[KernelClient]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    async with await kernel.agent(tmp_path.name) as desk:
        yield desk


def worker_of(desk: KernelClient, command: tuple[str, ...]) -> Worker:
    options = WorkerOptions(wait_seconds=5, grace_seconds=0, interrupt_seconds=8)
    handler = ResidentCommandHandler if is_resident(command) else CommandHandler
    return Worker(desk, handler(command), options=options)


def is_resident(command: tuple[str, ...]) -> bool:
    return "resident" in Path(command[-1]).name


async def ask(kernel: LocalKernel, desk: KernelClient, **input: Any) -> TurnRef:
    assert desk.agent is not None
    return await kernel.dispatch(desk.agent.agent_id, input)


async def test_its_result_and_its_progress_are_taken(
    kernel: LocalKernel, desk: KernelClient, command: tuple[str, ...]
) -> None:
    """The final file is the deliverable, each progress line a record before it, the context is whole."""
    assert desk.agent is not None
    turn = await ask(kernel, desk, task="count", steps=3)
    async with working(worker_of(desk, command)):
        found = await closed(desk, turn)
    assert (found.outcome, found.final_record_role) == ("succeeded", "deliverable")
    assert found.final_payload == {"counted": 3, "from": 0, "records": 1, "agent": desk.agent.agent_id}
    records = [item async for item in desk.turns.records(turn)]
    assert [item.payload for item in records if item.record.record_role == "progress"] == [
        {"step": step, "of": 3} for step in (1, 2, 3)
    ]


async def test_it_fails_suspends_and_comes_back_when_asked(
    kernel: LocalKernel, desk: KernelClient, command: tuple[str, ...]
) -> None:
    """The failure file, the suspend file, and exit status 75."""
    async with working(worker_of(desk, command)):
        failed = await closed(desk, await ask(kernel, desk, task="dance"))
        assert (failed.outcome, failed.final_record_role) == ("failed", "error_report")
        message = "this runtime knows count, approve and later"
        status = {} if is_resident(command) else {"child_exit_code": 1}  # a resident command stays
        assert failed.final_payload == {
            "error": "unknown_task",
            "message": message,
            **status,
            "stderr_tail": [f"unknown_task: {message}"],
        }
        await in_state(desk, await ask(kernel, desk, task="approve"), "suspended")
        again = await closed(desk, await ask(kernel, desk, task="later"))
        assert (again.outcome, again.final_payload) == ("succeeded", {"tried_again": True})


async def counted(desk: KernelClient, turn: TurnRef) -> None:
    """The command has counted a little."""
    with anyio.fail_after(60):
        while await record_count(desk, turn) == 1:  # noqa: ASYNC110  # the child's doing
            await anyio.sleep(0.05)


async def record_count(desk: KernelClient, turn: TurnRef) -> int:
    return len([item async for item in desk.turns.records(turn)])


async def test_it_sees_the_stop_file_and_leaves_what_it_has(
    kernel: LocalKernel, desk: KernelClient, command: tuple[str, ...]
) -> None:
    """A stopped turn keeps that payload."""
    assert desk.agent is not None
    turn = await ask(kernel, desk, task="count", steps=1000)
    async with working(worker_of(desk, command)):
        await counted(desk, turn)
        await desk.turns.stop(turn, requested_by=desk.agent)
        found = await closed(desk, turn)
    assert found.outcome == "stopped"
    assert 0 < found.final_payload["counted"] < 1000


async def test_it_counts_on_where_a_drained_worker_left_off(
    kernel: LocalKernel, desk: KernelClient, command: tuple[str, ...]
) -> None:
    """The checkpoint is there again at the next attempt, and nothing is counted twice."""
    turn = await ask(kernel, desk, task="count", steps=12)
    async with working(worker_of(desk, command)):
        await counted(desk, turn)
    async with working(worker_of(desk, command)):
        found = await closed(desk, turn)
    assert found.final_payload["counted"] == 12
    assert found.final_payload["from"] > 0
