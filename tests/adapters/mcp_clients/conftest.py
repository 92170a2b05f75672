"""A desk whose offers are tools, and the agent that dispatches for MCP clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import frozen

from cgworker import KernelClient, Question, Turn, Worker, WorkerOptions, fail
from cgworker.testing import LocalKernel
from cgworker.wire.converter import loads
from cgworker.worker.offers import publish_offers
from tests.journeys.conftest import working
from tests.kernels import NewProject

OPTIONS = WorkerOptions(wait_seconds=5, renew_seconds=0.2, interrupt_seconds=2, grace_seconds=0.5)
KINDS = ("order", "story", "ship", "both", "fail", "wait", "huge")


@frozen
class Order:
    """What is ordered."""

    item: str
    count: int


@pytest.fixture
def anyio_backend() -> str:
    """The server is the SDK's, on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
async def kernel(new_project: NewProject) -> AsyncIterator[LocalKernel]:
    async with new_project(lease_seconds=5) as kernel:
        yield kernel


@pytest.fixture
async def door(kernel: LocalKernel) -> AsyncIterator[KernelClient]:
    """The agent that dispatches for MCP clients."""
    async with await kernel.agent("door", grants=("turn.resume.any", "turn.stop.any")) as door:
        yield door


@pytest.fixture
async def greeter(kernel: LocalKernel) -> AsyncIterator[Worker]:
    """An agent that offers one kind of turn, whose input is a text."""
    worker = Worker(await kernel.agent("greeter", kinds=("turn.greet.v1",)), options=OPTIONS)

    @worker.turn("turn.greet.v1")
    async def greet(_: Turn, name: str) -> str:
        """Greet somebody by name."""
        return f"Hello, {name}!"

    await publish_offers(worker)
    async with working(worker):
        yield worker


@pytest.fixture
async def desk(kernel: LocalKernel) -> AsyncIterator[Worker]:
    """An agent that offers several kinds."""
    kinds = tuple(f"turn.{name}.v1" for name in KINDS)
    worker = Worker(await kernel.agent("desk", capacity=4, kinds=kinds), options=OPTIONS)

    @worker.turn("turn.order.v1")
    async def order(_: Turn, order: Order) -> dict[str, Any]:
        return {"ordered": f"{order.count} {order.item}"}

    @worker.turn("turn.story.v1")
    async def story(turn: Turn) -> str:
        await turn.record("Once upon a time")
        return "The end."

    @worker.turn("turn.ship.v1")
    async def ship(turn: Turn) -> dict[str, Any]:
        return {"shipped": await turn.ask(int, "How many?", key="count")}

    @worker.turn("turn.both.v1")
    async def both(turn: Turn) -> dict[str, Any]:
        return await turn.ask_all({"size": Question(int, "Which size?"), "sure": Question(bool, "Sure?")})

    @worker.turn("turn.fail.v1")
    async def failing(_: Turn) -> Any:
        return fail({"error": "no_paper"})

    @worker.turn("turn.wait.v1")
    async def wait(_: Turn) -> None:
        await anyio.sleep_forever()

    @worker.turn("turn.huge.v1")
    async def huge(_: Turn) -> Any:
        return {"huge": loads(b"1e400")}

    await publish_offers(worker)
    async with working(worker):
        yield worker
