"""An agent of pydantic-ai as a handler, with the tools of a real MCP server in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp_types", reason="mcp 2.3 is not installed here: `make test-mcp` runs these tests")

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.models.function import DeltaToolCall, FunctionModel

from cgworker import AdapterHandler
from cgworker.adapters.pydantic_ai import PydanticAgent
from cgworker.testing import play

SERVER = Path(__file__).with_name("clock_server.py")


async def test_a_tool_of_an_mcp_server_is_a_private_step_that_is_made_once(tmp_path: Path) -> None:
    """The handler starts again after an approval; a tool's error reaches the model, and is kept as well."""

    async def think(messages: list[Any], _: Any) -> AsyncIterator[Any]:
        said = [part for message in messages for part in message.parts]
        told = [str(part.content) for part in said if part.part_kind in ("tool-return", "retry-prompt")]
        calls = [
            DeltaToolCall("time_in", '{"city": "Bern"}', tool_call_id="c1"),
            DeltaToolCall("time_in", '{"city": "Atlantis"}', tool_call_id="c2"),
            DeltaToolCall("ring", "{}", tool_call_id="c3"),
        ]
        if len(told) < len(calls):
            yield {1: calls[len(told)]}
        else:
            yield "; ".join(told)

    transport = StdioTransport(sys.executable, [str(SERVER), str(tmp_path / "calls")], keep_alive=False)
    clock: MCPToolset[None] = MCPToolset(transport, id="clock")
    agent = Agent(FunctionModel(stream_function=think), name="ringer", toolsets=[clock])

    @agent.tool_plain(requires_approval=True)
    def ring() -> str:
        return "rung"

    played = await play(AdapterHandler(PydanticAgent(agent)), "go", answers={"approve:c3#1": True})
    assert played.entered_count == 2
    bern, atlantis, rung = played.payload["text"].split("; ")
    assert (bern, rung) == ("noon in Bern", "rung")
    assert "there is no such city" in atlantis
    assert (tmp_path / "calls").read_text().split() == ["Bern", "Atlantis"]
    steps = [record.payload for record in played.records if record.role == "step"]
    assert {"tool:time_in:c1#1", "tool:time_in:c2#1"} <= {step["key"] for step in steps}
    assert all(set(step) == {"key", "private"} for step in steps)
