"""A scripted agent of pydantic-ai: two tools at once, one that needs approval, and a text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from cgworker.adapters.pydantic_ai import PydanticAgent
from tests.adapters.killed import Script


def results_in(messages: list[ModelMessage]) -> list[Any]:
    """What the tools have given so far, in the order in which the model sees it."""
    return [part.content for message in messages for part in message.parts if part.part_kind == "tool-return"]


def scripted(script: Script, **options: Any) -> PydanticAgent:
    """The agent, whose model and tools note what they are asked."""

    async def think(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[Any]:
        number = 1 + sum(isinstance(message, ModelResponse) for message in messages)
        script.came(f"model{number}")
        if number == 1:
            yield {
                1: DeltaToolCall("look", '{"what": "a"}', tool_call_id="c1"),
                2: DeltaToolCall("look", '{"what": "b"}', tool_call_id="c2"),
            }
        elif number == 2:
            yield {1: DeltaToolCall("pay", '{"sum": 7}', tool_call_id="c3")}
        else:
            for word in ("done: ", *(f"{result}; " for result in results_in(messages))):
                yield word
        script.point(f"model{number}", "answered")

    agent = Agent(FunctionModel(stream_function=think), name="payer")

    @agent.tool_plain
    def look(what: str) -> str:
        script.came(f"look {what}")
        script.point(f"look {what}", "answered")
        return f"{what} is 7"

    @agent.tool_plain(requires_approval=True)
    def pay(sum: int) -> str:
        script.came("pay")
        script.point("pay", "answered")
        return f"{sum} paid"

    return PydanticAgent(agent, **options)
