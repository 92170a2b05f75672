"""An agent of pydantic-ai."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.models.function import DeltaToolCall, FunctionModel

from cgworker.adapters.pydantic_ai import PydanticAgent
from tests.soak.harnesses import Run


def adapter_for(run: Run) -> PydanticAgent:
    """The agent, with a model in this process."""

    async def think(messages: list[Any], _: Any) -> AsyncIterator[Any]:
        told = [part for message in messages for part in message.parts if part.part_kind == "tool-return"]
        await run.calls.make("model2" if told else "model1")
        yield str(told[0].content) if told else {1: DeltaToolCall("square", "{}", tool_call_id="c")}

    agent = Agent(FunctionModel(stream_function=think), name="squarer")

    @agent.tool_plain
    async def square() -> int:
        await run.calls.make("square")
        return run.square

    return PydanticAgent(agent)
