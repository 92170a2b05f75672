"""An agent of the OpenAI Agents SDK that asks the scripted model; the SDK is all that this needs."""

import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from agents import Agent, FunctionTool, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI

MAX_TURNS = 20

set_tracing_disabled(True)


async def look(number: int) -> str:
    """Return what is found at a number, a page of text."""
    return f"{number}: " + "all is well. " * 80


def agent_of(model_url: str, tool: FunctionTool) -> Agent[Any]:
    """The agent, with the tool `look`."""
    client = AsyncOpenAI(base_url=model_url, api_key="none")
    model = OpenAIChatCompletionsModel("scripted", client)
    return Agent[Any](name="looker", model=model, tools=[tool])


async def alone(agent: Agent[Any]) -> Any:
    """Run the agent with nothing that keeps its steps."""
    return (await Runner.run(agent, "go", max_turns=MAX_TURNS)).final_output


async def timed(run: Callable[[], Awaitable[Any]]) -> float:
    """The seconds of a run."""
    begun = time.perf_counter()
    await run()
    return time.perf_counter() - begun


def say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
