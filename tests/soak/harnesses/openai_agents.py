"""An agent of openai-agents."""

from __future__ import annotations

from typing import Any

from agents import Agent, function_tool

from cgworker.adapters.openai_agents import DurableAgent
from tests.adapters.openai_agent import Thinking, as_items, call, results_in, text
from tests.soak.harnesses import Run


def adapter_for(run: Run) -> DurableAgent:
    """The agent, with a model in this process."""

    class Model(Thinking):
        async def get_response(self, *args: Any, **kwargs: Any) -> Any:
            told = results_in(as_items(kwargs["input"] if "input" in kwargs else args[1]))
            await run.calls.make("model2" if told else "model1")
            return await super().get_response(*args, **kwargs)

    @function_tool
    async def square() -> int:
        await run.calls.make("square")
        return run.square

    def think(items: list[Any]) -> list[Any]:
        told = results_in(items)
        return [text(str(told[0]))] if told else [call("square", "{}", "c")]

    return DurableAgent(Agent[Any](name="squarer", model=Model(think), tools=[square]))
