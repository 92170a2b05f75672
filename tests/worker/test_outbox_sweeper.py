"""Results that no claim will ask for: sorted out by whoever has the outbox."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cgworker import KernelClient, Turn, TurnRef, Worker, WorkerOptions, succeed
from cgworker.events import Event, ResultKept
from cgworker.testing import LocalKernel
from cgworker.worker.outbox.outbox import Outbox
from cgworker.worker.resuming.outbox_sweeper import OutboxSweeper
from tests.kernels import NewProject


@pytest.fixture
async def kernel(new_project: NewProject) -> AsyncIterator[LocalKernel]:
    async with new_project() as kernel:
        yield kernel


class Desk:
    """An agent whose worker was killed with a result on the disk, and an outbox that has it."""

    def __init__(self, kernel: KernelClient, folder: Path) -> None:
        self.kernel = kernel
        self.folder = folder
        self.outbox = Outbox(folder, max_bytes=1_000_000)
        self.events: list[Event] = []

    async def leave(self, turn: TurnRef, payload: Any) -> None:
        """A result that the kernel was never told of, written a while ago."""
        snapshot = await self.kernel.turns.context(turn)
        lost = Turn(kernel=self.kernel, lease=_no_lease(), context=snapshot)
        entry = await self.outbox.put(lost, succeed(payload))
        os.utime(entry.path, (0, 0))

    async def sweep(self) -> None:
        assert self.kernel.agent is not None
        leftovers = OutboxSweeper(self.outbox, self.kernel, self.kernel.agent, self.events.append)
        await leftovers.sweep()

    @property
    def waiting(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path.is_file())


def _no_lease() -> Any:
    return None


@pytest.fixture
async def desk(kernel: LocalKernel, tmp_path: Path) -> AsyncIterator[Desk]:
    async with await kernel.agent("desk") as client:
        yield Desk(client, tmp_path / "outbox")


async def work(desk: Desk, tmp_path: Path, answer: Callable[[], Any]) -> None:
    """A worker on another machine takes the next turn."""
    worker = Worker(desk.kernel, options=WorkerOptions(outbox_path=tmp_path / "elsewhere"))

    @worker.turn()
    async def handle(_: Turn) -> Any:
        return answer()

    report = await worker.once()
    assert report is not None
    assert report.settled


def read(path: str) -> str:
    return Path(path).read_text()


async def test_what_the_kernel_has_is_removed(kernel: LocalKernel, desk: Desk, tmp_path: Path) -> None:
    """A worker was killed between the kernel's answer and the disk."""
    turn = await kernel.dispatch("desk", {})
    await work(desk, tmp_path, lambda: 42)
    await desk.leave(turn, 42)
    await desk.sweep()
    assert (desk.waiting, desk.events) == ([], [])


async def test_what_somebody_else_closed_is_kept_aside_and_named(
    kernel: LocalKernel, desk: Desk, tmp_path: Path
) -> None:
    """A completed run's result is never just gone (difference 18)."""
    turn = await kernel.dispatch("desk", {})
    await work(desk, tmp_path, lambda: "theirs")
    await desk.leave(turn, "ours")
    await desk.sweep()
    [kept] = desk.events
    assert isinstance(kept, ResultKept)
    assert (kept.turn, desk.waiting) == (turn, [])
    assert '"payload":"ours"' in read(kept.path)


async def test_a_turn_that_is_gone_leaves_its_result_aside(kernel: LocalKernel, desk: Desk) -> None:
    """Its number may even be another turn's by now, as after a database was set up anew."""
    turn = await kernel.dispatch("desk", {})
    await desk.leave(turn, "old")
    [path] = desk.folder.glob("*.json")
    text = path.read_text()
    path.write_text(text.replace('"fingerprint":"', '"fingerprint":"f'))
    os.utime(path, (0, 0))
    await desk.sweep()
    assert [type(event) for event in desk.events] == [ResultKept]
    assert desk.waiting == []


async def test_what_can_still_be_delivered_stays(kernel: LocalKernel, desk: Desk) -> None:
    """The turn's next claim delivers it."""
    turn = await kernel.dispatch("desk", {})
    await desk.leave(turn, "ours")
    await desk.sweep()
    assert (len(desk.waiting), desk.events) == (1, [])


async def test_young_results_and_those_of_others_are_left_alone(
    kernel: LocalKernel, desk: Desk, tmp_path: Path
) -> None:
    """A young one may be on its way to the kernel; another agent's is for its own workers."""
    turn = await kernel.dispatch("desk", {})
    await work(desk, tmp_path, lambda: "theirs")
    await desk.leave(turn, "ours")
    async with await kernel.agent("other") as other:
        before = kernel.faults.seen["get"]
        assert other.agent is not None
        await OutboxSweeper(desk.outbox, other, other.agent, None).sweep()
        [path] = desk.folder.glob("*.json")
        os.utime(path)
        await desk.sweep()
    assert kernel.faults.seen["get"] == before
    assert len(desk.waiting) == 1


async def test_what_a_killed_worker_was_writing_goes_after_a_while(desk: Desk) -> None:
    """Half a file is nobody's result; a shared file whose results are all struck is nobody's either."""
    desk.folder.mkdir()
    for name in ("T-1.x.1.tmp", "a.group"):
        (desk.folder / name).write_text("\n")
        os.utime(desk.folder / name, (0, 0))
    (desk.folder / "T-2.x.2.tmp").write_text("")
    await desk.sweep()
    assert desk.waiting == ["T-2.x.2.tmp"]
