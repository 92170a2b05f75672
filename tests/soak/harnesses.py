"""Agents of frameworks for the soak: a model's answer, a tool call, and another answer."""

from __future__ import annotations

import asyncio
import functools
import operator
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from typing import Annotated, Any, TypedDict

from agents import Agent as OpenAIAgent
from agents import function_tool
from langgraph.graph import END, START, StateGraph
from pydantic_ai import Agent as PydanticAIAgent
from pydantic_ai.models.function import DeltaToolCall, FunctionModel

from cgworker import AdapterHandler, Turn
from cgworker.adapters.langgraph import LangGraphAdapter
from cgworker.adapters.openai import ChatAdapter
from cgworker.adapters.openai_agents import DurableAgent
from cgworker.adapters.pydantic_ai import PydanticAgent
from cgworker.adapters.tools import function_tool as chat_tool
from tests.adapters.endpoint import calls, says, serving
from tests.adapters.openai_agent import Thinking, as_items, call, results_in, text

CALLS = ("model1", "square", "model2")

Ask = Callable[[str], Awaitable[None]]
"""Notes that a call is made, and takes its time."""


def handler_of(number: int, ask: Ask) -> AdapterHandler[Any]:
    """A handler that answers with the square of the number: of one framework after another."""
    makers: list[Callable[[int, Ask], Any]] = [_pydantic_ai, _openai_agents, _langgraph, _chat]
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


class _ChatEndpoint:
    """A model on loopback for the turns of this process, told apart by the requests' `user`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._asks: dict[str, Ask] = {}
        self._serving = ExitStack()
        self.base_url: str = self._serving.enter_context(serving(self._answer)).base_url

    def name_of(self, ask: Ask) -> str:
        """Let requests note their calls here, and return what they have for `user`."""
        name = uuid.uuid4().hex
        self._asks[name] = ask
        return name

    def _answer(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        told = [message["content"] for message in request["messages"] if message["role"] == "tool"]
        asked = self._asks[request["user"]]("model2" if told else "model1")
        asyncio.run_coroutine_threadsafe(asked, self._loop).result()  # type: ignore[arg-type]  # an Ask gives a coroutine
        return says(str(told[0])) if told else calls(("square", {}))


@functools.cache
def _chat_endpoint() -> _ChatEndpoint:
    return _ChatEndpoint()


def _chat(number: int, ask: Ask) -> ChatAdapter:
    async def square(_turn: Turn, _input: dict[str, Any]) -> int:
        """Return the square of the number."""
        await ask("square")
        return number**2

    endpoint = _chat_endpoint()
    os.environ["OPENAI_API_KEY"] = "none"
    return ChatAdapter(
        model="scripted",
        base_url=endpoint.base_url,
        tools=[chat_tool(square)],
        parameters={"user": endpoint.name_of(ask)},
    )


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
