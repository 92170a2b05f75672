"""Tools of a hosted MCP server, which the model's provider calls: their approvals, in an agent of the SDK."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent, HostedMCPTool, MCPToolApprovalFunctionResult, MCPToolApprovalRequest, function_tool
from openai.types.responses.response_output_item import McpApprovalRequest

from cgworker import AdapterHandler, QuestionDeclined
from cgworker.adapters.openai_agents import DurableAgent
from cgworker.testing import play
from tests.adapters.openai_agent import Thinking, call, results_in, text


@pytest.fixture
def anyio_backend() -> str:
    """The SDK runs on asyncio."""
    return "asyncio"


def asking(id: str, sum: int) -> McpApprovalRequest:
    """What the provider answers instead of calling the tool."""
    return McpApprovalRequest(
        id=id,
        arguments=f'{{"sum": {sum}}}',
        name="pay",
        server_label="bank",
        type="mcp_approval_request",
    )


def hosted(**options: Any) -> HostedMCPTool:
    """The tools of a bank."""
    return HostedMCPTool(
        tool_config={
            "type": "mcp",
            "server_label": "bank",
            "server_url": "https://bank.example",
            "require_approval": "always",
        },
        **options,
    )


def decisions_in(items: list[Any]) -> list[tuple[Any, ...]]:
    """What the provider is told: which request, whether it was approved, and why not."""
    return [
        (item["approval_request_id"], item["approve"], item.get("reason"))
        for item in items
        if item.get("type") == "mcp_approval_response"
    ]


async def test_an_approval_of_a_hosted_tool_is_a_question() -> None:
    """Each is decided for itself, and the provider is told all of them."""
    told: list[Any] = []

    def think(items: list[Any]) -> list[Any]:
        told[:] = decisions_in(items)
        return [text("done")] if told else [asking("r1", 7), asking("r2", 8)]

    agent = Agent[Any](name="payer", model=Thinking(think), tools=[hosted()])
    handler = AdapterHandler(DurableAgent(agent, stream=False))
    waiting = await play(handler)
    assert [(question.key, question.question) for question in waiting.questions] == [
        ("approve:r1#1", {"agent": "payer", "tool": "pay", "arguments": {"sum": 7}}),
        ("approve:r2#1", {"agent": "payer", "tool": "pay", "arguments": {"sum": 8}}),
    ]
    answers = {"approve:r1#1": True, "approve:r2#1": QuestionDeclined("approve:r2#1", "too much")}
    assert (await play(handler, answers=answers)).payload == {"text": "done"}
    assert told == [("r1", True, None), ("r2", False, "too much")]


async def test_a_function_decides_on_a_hosted_tool_once() -> None:
    """A later attempt tells the provider what it was told: that has perhaps acted by now."""
    decided: list[str] = []
    told: list[Any] = []

    async def decide(asked: MCPToolApprovalRequest) -> MCPToolApprovalFunctionResult:
        decided.append(asked.data.id)
        return {"approve": len(decided) == 1, "reason": "only one"}

    @function_tool(needs_approval=True)
    def close() -> str:
        return "closed"

    def think(items: list[Any]) -> list[Any]:
        told[:] = decisions_in(items)
        if not told:
            return [asking("r1", 7)]
        return [text("done")] if results_in(items) else [call("close", "{}", "c")]

    agent = Agent[Any](name="payer", model=Thinking(think), tools=[hosted(on_approval_request=decide), close])
    played = await play(AdapterHandler(DurableAgent(agent, stream=False)), answers={"approve:c#1": True})
    assert (played.payload, decided) == ({"text": "done"}, ["r1"])
    assert [decision[:2] for decision in told] == [("r1", True)]
