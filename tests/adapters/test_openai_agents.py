"""An agent of the OpenAI Agents SDK as a handler: approvals, handoffs, MCP tools, output, text and stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import Agent, RunConfig, function_tool, handoff
from agents.mcp import MCPServer
from mcp.types import CallToolResult, TextContent
from mcp.types import Tool as MCPTool
from pydantic import BaseModel

from cgworker import AdapterHandler, QuestionDeclined
from cgworker.adapters.openai_agents import DurableAgent
from cgworker.testing import Played, play
from tests.adapters.killed import Script
from tests.adapters.openai_agent import Thinking, call, results_in, scripted, text


@pytest.fixture
def anyio_backend() -> str:
    """The SDK runs on asyncio."""
    return "asyncio"


def roles(played: Played, role: str) -> list[Any]:
    return [record.payload for record in played.records if record.role == role]


async def test_an_approval_is_a_question_that_shows_the_call(tmp_path: Path) -> None:
    """The turn is suspended; nothing is asked or done twice when it goes on."""
    (question,) = (await play(AdapterHandler(scripted(Script(tmp_path))))).questions
    shown = {"agent": "payer", "tool": "pay", "arguments": {"sum": 7}}
    assert (question.key, question.question) == ("approve:c3#1", shown)
    played = await play(AdapterHandler(scripted(Script(tmp_path))), answers={"approve:c3#1": True})
    assert played.payload == {"text": "done: a is 7; b is 7; 7 paid; "}
    assert roles(played, "usage") == [{"requests": 3, "input_tokens": 15, "output_tokens": 0}]
    assert [step["key"] for step in roles(played, "step")] == [
        *("model#1", "tool:look:c1#1", "tool:look:c2#1", "model#2", "tool:pay:c3#1", "model#3")
    ]
    assert [piece["text"] for piece in roles(played, "progress")] == ["done: a is 7; b is 7; 7 paid; "]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (False, "It was refused."),
        (QuestionDeclined("approve:c3#1", "over the limit"), "over the limit"),
        (None, "Nobody approved it in time."),
    ],
    ids=["false", "declined", "too late"],
)
async def test_a_refusal_reaches_the_model(tmp_path: Path, answer: Any, told: str) -> None:
    """With the reason; the tool is not called."""
    answers = {} if answer is None else {"approve:c3#1": answer}
    played = await play(AdapterHandler(scripted(Script(tmp_path), question_seconds=60)), answers=answers)
    assert played.payload == {"text": f"done: a is 7; b is 7; {told}; "}
    assert "pay asked" not in Script(tmp_path).counts


async def test_calls_that_need_approval_go_on_when_all_are_decided() -> None:
    """Each gets its own decision, whatever the order of the answers; the results keep the model's order."""
    paid: list[int] = []

    @function_tool(needs_approval=True)
    def pay(sum: int) -> str:
        paid.append(sum)
        return f"{sum} paid"

    calls = [call("pay", f'{{"sum": {each}}}', f"c{each}") for each in (1, 2, 3)]
    seen: list[Any] = []

    def think(items: list[Any]) -> list[Any]:
        seen[:] = results_in(items)
        return [text("done")] if seen else calls

    handler = AdapterHandler(DurableAgent(Agent[Any](name="payer", model=Thinking(think), tools=[pay])))
    waiting = await play(handler, answers={"approve:c3#1": True})
    assert (waiting.suspended_reason, paid) == ("await_answer", [])
    await play(handler, answers={"approve:c3#1": True, "approve:c1#1": True, "approve:c2#1": False})
    assert (paid, seen) == ([1, 3], ["1 paid", "It was refused.", "3 paid"])


@pytest.mark.parametrize("by", ["agent", "handoff"])
async def test_an_agent_that_is_handed_over_to_is_on_steps_as_well(by: str) -> None:
    """And one that hands back; each model and each tool is a step of the same turn."""
    acted: list[str] = []

    @function_tool(needs_approval=True)
    def fix() -> str:
        acted.append("fix")
        return "fixed"

    expert = Agent[Any](name="expert", tools=[fix])
    desk = Agent[Any](name="desk", handoffs=[expert if by == "agent" else handoff(expert)])
    expert.handoffs = [desk]
    after: dict[str, list[Any]] = {
        "h1": [call("fix", "{}", "f")],
        "f": [call("transfer_to_desk", "{}", "h2")],
    }

    def answer(items: list[Any]) -> list[Any]:
        done = [item["call_id"] for item in items if item.get("type") == "function_call_output"]
        return after.get(done[-1], [text("all is well")])

    expert.model = Thinking(answer)
    desk.model = Thinking(
        lambda items: answer(items) if results_in(items) else [call("transfer_to_expert", "{}", "h1")]
    )
    played = await play(AdapterHandler(DurableAgent(desk)), answers={"approve:f#1": True})
    assert (played.payload, acted) == ({"text": "all is well"}, ["fix"])
    assert played.questions[0].question["agent"] == "expert"
    keys = [step["key"] for step in roles(played, "step")]
    assert keys == ["model#1", "model#2", "tool:fix:f#1", "model#3", "model#4"]


class Server(MCPServer):
    """An MCP server in this process, with one tool."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[Any] = []

    @property
    def name(self) -> str:
        return "clock"

    async def connect(self) -> None: ...

    async def cleanup(self) -> None: ...

    async def list_tools(self, *_: Any, **__: Any) -> list[MCPTool]:
        return [MCPTool(name="time", inputSchema={"type": "object", "properties": {}})]

    async def call_tool(self, tool_name: str, arguments: Any, *_: Any, **__: Any) -> CallToolResult:
        self.called.append((tool_name, arguments))
        return CallToolResult(content=[TextContent(type="text", text="noon")])

    async def list_prompts(self) -> Any: ...

    async def get_prompt(self, name: str, arguments: Any = None) -> Any: ...


async def test_a_tool_of_an_mcp_server_is_a_step() -> None:
    """It is called once, though the handler starts again after it."""

    @function_tool(needs_approval=True)
    def ring() -> str:
        return "rung"

    def think(items: list[Any]) -> list[Any]:
        steps: list[list[Any]] = [[call("time", "{}", "t")], [call("ring", "{}", "r")], [text("it is noon")]]
        return steps[len(results_in(items))]

    server = Server()
    agent = Agent[Any](name="clock", model=Thinking(think), tools=[ring], mcp_servers=[server])
    played = await play(AdapterHandler(DurableAgent(agent)), answers={"approve:r#1": True})
    assert (played.payload, server.called, played.entered_count) == (
        {"text": "it is noon"},
        [("time", {})],
        2,
    )


class Verdict(BaseModel):
    price: int
    fair: bool


@pytest.mark.parametrize("stream", [True, False])
async def test_structured_output_is_the_deliverable(stream: bool) -> None:
    """As JSON; the model may be one of the run's configuration."""
    model = Thinking(lambda _: [text('{"price": 7, "fair": true}')])
    agent = Agent[Any](name="judge", output_type=Verdict)
    durable = DurableAgent(agent, stream=stream, run={"run_config": RunConfig(model=model)})
    assert (await play(AdapterHandler(durable))).payload == {"price": 7, "fair": True}


async def test_a_stop_ends_a_model_request_at_once() -> None:
    """The request is cancelled, and the turn is stopped."""
    cancelled: list[bool] = []

    class Slow(Thinking):
        async def get_response(self, *_: Any, **__: Any) -> Any:
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.append(True)

    agent = Agent[Any](name="slow", model=Slow(None))
    played = await play(AdapterHandler(DurableAgent(agent)), "go", stop_after=0.1)
    assert (type(played.outcome).__name__, cancelled) == ("Stopped", [True])


async def test_the_users_agents_stay_as_they_are(tmp_path: Path) -> None:
    """They run elsewhere as well."""
    durable = scripted(Script(tmp_path))
    model, tools = durable.agent.model, list(durable.agent.tools)
    await play(AdapterHandler(durable))
    assert durable.agent.model is model
    assert durable.agent.tools == tools
