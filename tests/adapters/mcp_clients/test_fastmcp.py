"""The MCP server with the client of fastmcp, over HTTP; with tasks, the one of fastmcp-tasks."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("mcp_types", reason="mcp 2.3 is not installed here: `make test-mcp` runs these tests")
pytest.importorskip("fastmcp_tasks", reason="fastmcp is not installed here: `make test-mcp` runs these tests")

from fastmcp import Client
from fastmcp.client import extension_hooks
from fastmcp.client.auth import BearerAuth
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.exceptions import ToolError
from fastmcp_tasks import call_tool_task

from cgworker import KernelClient
from tests.adapters.mcp_clients.test_http import served

pytestmark = pytest.mark.usefixtures("desk")


@pytest.fixture(params=["waiting", "tasks"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the clients declare tasks, which they all do once fastmcp_tasks is imported."""
    if request.param == "waiting":
        monkeypatch.setattr(extension_hooks, "_internal_client_extension_factories", [])
    return str(request.param)


def client_at(url: str, **how: Any) -> Client[Any]:
    """A client that presents the bearer."""
    return Client(StreamableHttpTransport(url, auth=BearerAuth("s3cret")), **how)


async def answer(message: str, _: Any, params: Any, __: Any) -> Any:
    """A user who wants three."""
    assert (message, params.requested_schema["required"]) == ("How many?", ["answer"])
    return {"answer": 3}


async def test_fastmcp_lists_the_tools_and_calls_them(door: KernelClient, way: str) -> None:
    """With the result as a value, and a failure as an error; who waits is told what the turn tells."""
    told: list[str | None] = []

    async def on_progress(_: float, __: float | None, message: str | None) -> None:
        told.append(message)

    async with served(door) as url, client_at(url, progress_handler=on_progress) as client:
        assert "desk__turn_order_v1" in [tool.name for tool in await client.list_tools()]
        called = await client.call_tool("desk__turn_order_v1", {"item": "bells", "count": 3})
        assert called.structured_content == {"ordered": "3 bells"}
        await client.call_tool("desk__turn_story_v1", {})
        with pytest.raises(ToolError, match="no_paper"):
            await client.call_tool("desk__turn_fail_v1", {})
    assert way == "tasks" or "Once upon a time" in told


@pytest.mark.usefixtures("way")
async def test_fastmcp_asks_its_user_what_the_turn_asks(door: KernelClient) -> None:
    """The call goes on with the answer."""
    async with served(door) as url, client_at(url, elicitation_handler=answer) as client:
        called = await client.call_tool("desk__turn_ship_v1", {})
    assert called.structured_content == {"shipped": 3}


async def test_fastmcp_cancels_a_task(door: KernelClient) -> None:
    """Its handle sees that the turn was stopped."""
    async with served(door) as url, client_at(url) as client:
        task = await call_tool_task(client, "desk__turn_wait_v1", {})
        await task.cancel()
        assert (await task.wait(timeout=60)).status == "cancelled"
