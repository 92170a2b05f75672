"""A scripted agent of the OpenAI Agents SDK: two tools at once, one that needs approval, and a text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, ModelResponse, Usage, function_tool, set_tracing_disabled
from agents.testing import ModelStep, ScriptedModel
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from cgworker.adapters.openai_agents import DurableAgent
from tests.adapters.killed import Script

set_tracing_disabled(True)


def call(name: str, arguments: str, call_id: str) -> ResponseFunctionToolCall:
    """A call of a tool."""
    return ResponseFunctionToolCall(type="function_call", call_id=call_id, name=name, arguments=arguments)


def text(said: str) -> ResponseOutputMessage:
    """The text of an answer."""
    content = ResponseOutputText(type="output_text", text=said, annotations=[])
    return ResponseOutputMessage(
        id="m", type="message", role="assistant", status="completed", content=[content]
    )


class Thinking(ScriptedModel):
    """A model that answers by what it is shown, from a function."""

    def __init__(self, think: Any) -> None:
        super().__init__()
        self._think = think

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        output = self._think(as_items(kwargs["input"] if "input" in kwargs else args[1]))
        return ModelResponse(output=output, usage=Usage(requests=1, input_tokens=5), response_id=None)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        answer = await self.get_response(*args, **kwargs)
        script = ScriptedModel([ModelStep(output=answer.output, usage=answer.usage)])
        async for event in script.stream_response(*args, **kwargs):
            yield event


def as_items(input: Any) -> list[Any]:
    """The items of a run's input."""
    return [{"role": "user", "content": input}] if isinstance(input, str) else list(input)


def results_in(items: list[Any]) -> list[Any]:
    """What the tools have given so far, in the order in which the model sees it."""
    return [item["output"] for item in items if item.get("type") == "function_call_output"]


def scripted(script: Script, **options: Any) -> DurableAgent:
    """The agent, whose model and tools note what they are asked."""

    def think(items: list[Any]) -> list[Any]:
        results = results_in(items)
        number = {0: 1, 2: 2, 3: 3}[len(results)]
        script.came(f"model{number}")
        script.point(f"model{number}", "answered")
        if number == 1:
            return [call("look", '{"what": "a"}', "c1"), call("look", '{"what": "b"}', "c2")]
        if number == 2:
            return [call("pay", '{"sum": 7}', "c3")]
        return [text("done: " + "".join(f"{result}; " for result in results))]

    @function_tool
    def look(what: str) -> str:
        script.came(f"look {what}")
        script.point(f"look {what}", "answered")
        return f"{what} is 7"

    @function_tool(needs_approval=True)
    def pay(sum: int) -> str:
        script.came("pay")
        script.point("pay", "answered")
        return f"{sum} paid"

    agent = Agent[Any](name="payer", model=Thinking(think), tools=[look, pay])
    return DurableAgent(agent, **options)
