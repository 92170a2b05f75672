"""Agents of frameworks for the soak: a model's answer, a tool call, and another answer."""

from __future__ import annotations

import functools
import operator
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, TypedDict

from agents import Agent as OpenAIAgent
from agents import function_tool
from langgraph.graph import END, START, StateGraph
from pydantic_ai import Agent as PydanticAIAgent
from pydantic_ai.models.function import DeltaToolCall, FunctionModel

from cgworker import AdapterHandler
from cgworker.adapters.langgraph import LangGraphAdapter
from cgworker.adapters.openai_agents import DurableAgent
from cgworker.adapters.pydantic_ai import PydanticAgent
from tests.adapters.openai_agent import Thinking, as_items, call, results_in, text

CALLS = ("model1", "square", "model2")

Ask = Callable[[str], Awaitable[None]]
"""Notes that a call is made, and takes its time."""


def handler_of(number: int, ask: Ask) -> AdapterHandler[Any]:
    """A handler that answers with the square of the number: of one framework after another."""
    makers: list[Callable[[int, Ask], Any]] = [_pydantic_ai, _openai_agents, _langgraph]
    return AdapterHandler(makers[number // 6 % len(makers)](number, ask))


def _pydantic_ai(number: int, ask: Ask) -> PydanticAgent:
    async def think(messages: list[Any], _: Any) -> AsyncIterator[Any]:
        told = [part for message in messages for part in message.parts if part.part_kind == "tool-return"]
        await ask("model2" if told else "model1")
        yield str(told[0].content) if told else {1: DeltaToolCall("square", "{}", tool_call_id="c")}

    agent = PydanticAIAgent(FunctionModel(stream_function=think), name="squarer")

    @agent.tool_plain
    async def square() -> int:
        await ask("square")
        return number**2

    return PydanticAgent(agent)


def _openai_agents(number: int, ask: Ask) -> DurableAgent:
    class Model(Thinking):
        async def get_response(self, *args: Any, **kwargs: Any) -> Any:
            told = results_in(as_items(kwargs["input"] if "input" in kwargs else args[1]))
            await ask("model2" if told else "model1")
            return await super().get_response(*args, **kwargs)

    @function_tool
    async def square() -> int:
        await ask("square")
        return number**2

    def think(items: list[Any]) -> list[Any]:
        told = results_in(items)
        return [text(str(told[0]))] if told else [call("square", "{}", "c")]

    return DurableAgent(OpenAIAgent[Any](name="squarer", model=Model(think), tools=[square]))


class _State(TypedDict, total=False):
    squares: Annotated[list[int], operator.add]


def _langgraph(number: int, ask: Ask) -> LangGraphAdapter:
    async def node(of: str, _: _State) -> _State:
        await ask(of)
        return {"squares": [number**2] if of == "square" else []}

    builder = StateGraph(_State)
    for each in CALLS:
        builder.add_node(each, functools.partial(node, each))
    for before, after in zip([START, *CALLS], [*CALLS, END], strict=True):
        builder.add_edge(before, after)
    return LangGraphAdapter(
        graph=builder.compile(),
        begin=lambda _: {"squares": []},
        output=lambda state: {"text": str(state["squares"][0])},
        shown=lambda _: None,
    )
