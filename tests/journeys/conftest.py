"""Whole stories, against a real kernel; on asyncio and on trio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import KernelClient, TurnRef, Worker
from cgworker.events import Event
from cgworker.testing import LocalKernel
from cgworker.wire.turns import TurnSnapshot
from tests.kernels import NewProject


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
async def kernel(new_project: NewProject) -> AsyncIterator[LocalKernel]:
    """A kernel with short leases, so that stories in which one ends are short."""
    async with new_project(lease_seconds=2.0) as kernel:
        yield kernel


@pytest.fixture
async def patient(new_project: NewProject) -> AsyncIterator[LocalKernel]:
    """A kernel with leases that do not end within a test, however busy the machine is."""
    async with new_project() as kernel:
        yield kernel


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[Worker]:
    """The worker runs while the block does, and drains at its end."""
    async with anyio.create_task_group() as group:
        await group.start(_run, worker)
        yield worker
        worker.drain()


async def _run(worker: Worker, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    await worker.run(task_status=task_status)


async def closed(kernel: KernelClient, turn: TurnRef, *, seconds: float = 60) -> TurnSnapshot:
    """The turn, once it is closed."""
    return await in_state(kernel, turn, "closed", seconds=seconds)


async def in_state(kernel: KernelClient, turn: TurnRef, state: str, *, seconds: float = 60) -> TurnSnapshot:
    """The turn, once it is in this state."""
    with anyio.fail_after(seconds):
        found = await kernel.turns.get(turn)
        while found.state != state:
            before = found.state
            found = await kernel.turns.get(turn, state=before, wait_seconds=5)
            if found.state == before:  # a kernel that does not wait would be asked without end
                await anyio.sleep(0.05)
    return found


async def history(kernel: KernelClient, turn: TurnRef) -> list[str]:
    """The turn's events, in order."""
    return [event.event_type for event in (await kernel.turns.feed(turn)).items]


class Witness:
    """A listener that remembers, and can be waited on."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._news = anyio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()
        self._news = anyio.Event()

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def saw(self, kind: type[Event], *, seconds: float = 60) -> Any:
        with anyio.fail_after(seconds):
            while not self.of(kind):
                await self._news.wait()
        return self.of(kind)[-1]
