"""`cg mcp serve` on stdin and stdout, with the SDK's own client."""

from __future__ import annotations

import json
import sys

import anyio
import pytest

pytest.importorskip("mcp_types", reason="mcp 2.3 is not installed here: `make test-mcp` runs these tests")

from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from cgworker import KernelClient
from cgworker.testing import LocalKernel
from tests.adapters.mcp_clients.test_calls import text_in, the_turn
from tests.journeys.conftest import in_state


def serve(door: KernelClient) -> list[str]:
    """The command line of a server that acts as this agent."""
    assert door.agent is not None
    acting = ["--project-id", door.agent.project_id, "--agent-id", door.agent.agent_id]
    kernel = ["--base-url", door.base_url, "--auth-token", door.secrets[0]]
    return [sys.executable, "-m", "cgworker", "mcp", "serve", *acting, *kernel]


@pytest.mark.usefixtures("greeter")
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_tool_call_over_stdio_is_a_turn_of_the_agent_that_offers_it(
    door: KernelClient, mode: str
) -> None:
    """The thread from a client's call to the handler and back, in both eras of the protocol."""
    command, *arguments = serve(door)
    server = StdioServerParameters(command=command, args=arguments)
    async with Client(stdio_client(server), mode=mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["greeter"]
        called = await client.call_tool("greeter", {"input": "Ada"})
    assert not called.is_error
    assert text_in(called) == "Hello, Ada!"


@pytest.mark.usefixtures("desk")
async def test_a_client_that_goes_away_stops_nothing(kernel: LocalKernel, door: KernelClient) -> None:
    """The server ends with it; the turn that it waited for is a record of its own, and goes on."""
    async with await anyio.open_process(serve(door), stderr=None) as server:
        assert server.stdin is not None
        for message in (
            {
                "id": 1,
                "method": "initialize",
                "params": {
                    "protocolVersion": "2025-11-25",
                    "capabilities": {},
                    "clientInfo": {"name": "test", "version": "1"},
                },
            },
            {"method": "notifications/initialized"},
            {"id": 2, "method": "tools/call", "params": {"name": "desk__turn_ship_v1", "arguments": {}}},
        ):
            await server.stdin.send(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        turn = await the_turn(kernel, door, "turn.ship.v1")
        await in_state(door, turn, "suspended")
        await server.stdin.aclose()
        with anyio.fail_after(60):
            assert await server.wait() == 0
    assert not (await door.turns.get(turn)).stop_requested
