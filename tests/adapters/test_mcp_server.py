"""Agents offered as MCP tools: the SDK's own client, over stdio and over HTTP on loopback."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cgworker import KernelClient, Turn, Worker, WorkerOptions
from cgworker.testing import LocalKernel
from cgworker.worker.offers import publish_offers
from tests.journeys.conftest import working
from tests.kernels import NewProject

pytest.importorskip("mcp_types", reason="mcp 2.3 is not installed here: `make test-mcp` runs these tests")

from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

OPTIONS = WorkerOptions(wait_seconds=5, renew_seconds=0.2, interrupt_seconds=2)


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
async def desk(kernel: LocalKernel) -> AsyncIterator[Worker]:
    """A worker that greets; its offer is published."""
    client = await kernel.agent("desk", capacity=4, kinds=("turn.greet.v1",))
    worker = Worker(client, options=OPTIONS)

    @worker.turn("turn.greet.v1")
    async def greet(_: Turn, name: str) -> str:
        """Greet somebody by name."""
        return f"Hello, {name}!"

    await publish_offers(worker)
    async with working(worker):
        yield worker


@asynccontextmanager
async def over_stdio(door: KernelClient, **how: Any) -> AsyncIterator[Client]:
    """A client of `cg mcp serve`, a process of its own."""
    assert door.agent is not None
    words = ["mcp", "serve", "--project-id", door.agent.project_id, "--agent-id", door.agent.agent_id]
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "cgworker", *words, "--base-url", door.base_url],
        env={"CG_AGENT_CREDENTIAL_TOKEN": door.secrets[0]},
    )
    async with Client(stdio_client(server), **how) as client:
        yield client


def text_in(called: Any) -> str:
    """The text of a result."""
    return "".join(each.text for each in called.content)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.usefixtures("desk")
async def test_a_tool_call_over_stdio_is_a_turn_of_the_agent_that_offers_it(
    door: KernelClient, mode: str
) -> None:
    """The thread from a client's call to the handler and back, in both eras of the protocol."""
    async with over_stdio(door, mode=mode) as client:
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == ["desk"]
        called = await client.call_tool("desk", {"input": "Ada"})
    assert not called.is_error
    assert text_in(called) == "Hello, Ada!"
