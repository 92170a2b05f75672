"""An agent of the OpenAI Agents SDK as a handler: approvals, handoffs, MCP tools, output, text and stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import (
    Agent,
    ApplyPatchTool,
    ComputerTool,
    CustomTool,
    RunConfig,
    ShellTool,
    function_tool,
    handoff,
)
from agents.editor import ApplyPatchOperation, ApplyPatchResult
from agents.mcp import MCPServer
from agents.tool import LocalShellTool, ShellCommandOutput, ShellResult
from mcp.types import CallToolResult, TextContent
from mcp.types import Tool as MCPTool
from openai.types.responses import ResponseOutputItem
from pydantic import BaseModel, TypeAdapter

from cgworker import AdapterHandler, QuestionDeclined, UsageError
from cgworker.adapters.harness import Harness
from cgworker.adapters.openai_agents import DurableAgent
from cgworker.testing import Played, play
from tests.adapters.killed import Script
from tests.adapters.openai_agent import Thinking, call, results_in, scripted, text

_OUTPUTS: TypeAdapter[Any] = TypeAdapter(ResponseOutputItem)


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


class Editor:
    """Applies patches, which it notes."""

    def __init__(self, acted: list[str]) -> None:
        self._acted = acted

    def create_file(self, operation: ApplyPatchOperation) -> ApplyPatchResult:
        self._acted.append(operation.path)
        return ApplyPatchResult(output="created")

    update_file = delete_file = create_file


def local_tools(acted: list[str]) -> dict[str, tuple[Any, Any]]:
    """Tools that the SDK runs here itself, with a call of each; they note what they did."""

    def act(what: str, result: Any) -> Any:
        acted.append(what)
        return result

    async def shout(_: Any, said: str) -> str:
        return str(act(said, said.upper()))

    def broken(_: Any) -> str:
        acted.append("make")
        raise OSError("no room")

    shell_result = ShellResult(output=[ShellCommandOutput(stdout="made")])
    patch = {"type": "create_file", "path": "a.txt", "diff": "+a"}
    command = {"type": "exec", "command": ["make"], "env": {}}
    return {
        "shell": (
            ShellTool(executor=lambda asked: act(asked.data.action.commands[0], shell_result)),
            {
                "type": "shell_call",
                "id": "s",
                "call_id": "s",
                "action": {"commands": ["make"]},
                "status": "completed",
            },
        ),
        "breaking": (
            ShellTool(executor=broken),
            {
                "type": "shell_call",
                "id": "b",
                "call_id": "b",
                "action": {"commands": ["make"]},
                "status": "completed",
            },
        ),
        "local_shell": (
            LocalShellTool(executor=lambda asked: act(asked.data.action.command[0], "made")),
            {"type": "local_shell_call", "id": "l", "call_id": "l", "action": command, "status": "completed"},
        ),
        "apply_patch": (
            ApplyPatchTool(editor=Editor(acted)),
            {
                "type": "apply_patch_call",
                "id": "p",
                "call_id": "p",
                "operation": patch,
                "status": "completed",
            },
        ),
        "custom": (
            CustomTool(name="shout", description="Shouts.", on_invoke_tool=shout),
            {"type": "custom_tool_call", "id": "u", "call_id": "u", "name": "shout", "input": "make"},
        ),
    }


def making(acted: list[str], kind: str, seen: list[Any]) -> Agent[Any]:
    """An agent that has its tool act, and then needs an approval; `seen` has what it is told."""
    tool, asked = local_tools(acted)[kind]

    @function_tool(needs_approval=True)
    def pay() -> str:
        return "paid"

    def think(items: list[Any]) -> list[Any]:
        seen[:] = [item for item in items if str(item.get("type")).endswith("_output")]
        return [[_OUTPUTS.validate_python(asked)], [call("pay", "{}", "c")], [text("done")]][len(seen)]

    return Agent[Any](name="maker", model=Thinking(think), tools=[tool, pay])


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("shell", "made"),
        ("local_shell", "made"),
        ("apply_patch", "created"),
        ("custom", "MAKE"),
        ("breaking", "no room"),
    ],
)
async def test_a_tool_that_the_sdk_runs_here_is_a_step(kind: str, told: str) -> None:
    """It acts once, though the run begins again after an approval, and the model reads what came of it."""
    acted: list[str] = []
    seen: list[Any] = []
    handler = AdapterHandler(DurableAgent(making(acted, kind, seen), stream=False))
    played = await play(handler, answers={"approve:c#1": True})
    assert (played.payload, len(acted)) == ({"text": "done"}, 1)
    assert told in str(seen[0])


@pytest.mark.parametrize("kind", ["shell", "custom"])
async def test_a_result_that_cannot_be_kept_is_not_told_to_the_model(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK would go on with it, and a later attempt would act again."""

    async def fail(*_: Any, **__: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Harness, "tool", fail)
    seen: list[Any] = []
    played = await play(AdapterHandler(DurableAgent(making([], kind, seen), stream=False)))
    assert (str(played.error), seen) == ("the disk is full", [])


async def test_a_computer_is_refused() -> None:
    """A later attempt would click on another screen."""
    agent = Agent[Any](name="clicker", model=Thinking(lambda _: []), tools=[ComputerTool(computer=object())])
    assert isinstance((await play(AdapterHandler(DurableAgent(agent)))).error, UsageError)


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
