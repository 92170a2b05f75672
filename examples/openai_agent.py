"""An agent of the OpenAI Agents SDK as a worker. An answer that was kept is not asked for again.

Without MODEL a scripted model answers, which needs neither a key nor a network.

MODEL=gpt-5 python examples/openai_agent.py
"""

import os
from typing import Any

from agents import Agent, Model, ModelResponse, Usage, function_tool, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from cgworker import AdapterHandler, Worker, run
from cgworker.adapters.openai_agents import DurableAgent


class Scripted(Model):
    """Looks the price up, buys, and says what came of it."""

    async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:
        """Return the next answer, by the results so far."""
        del system_instructions
        items = [] if isinstance(input, str) else input
        said = [item["output"] for item in items if item.get("type") == "function_call_output"]
        if len(said) < 2:
            name = ("price", "buy")[len(said)]
            call = ResponseFunctionToolCall(
                type="function_call", call_id=f"call-{name}", name=name, arguments='{"thing": "a bell"}'
            )
            return ModelResponse(output=[call], usage=Usage(requests=1), response_id=None)
        text = ResponseOutputText(type="output_text", text=f"{said[1]} for {said[0]}.", annotations=[])
        message = ResponseOutputMessage(
            id="m", type="message", role="assistant", status="completed", content=[text]
        )
        return ModelResponse(output=[message], usage=Usage(requests=1), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        """Not done here: `stream=False` below."""
        raise NotImplementedError


@function_tool
def price(thing: str) -> int:
    """Return the price of a thing."""
    return 7 * len(thing)


@function_tool(needs_approval=True)
def buy(thing: str) -> str:
    """Buy a thing; a person approves it first, by `cg turn answer`."""
    return f"bought {thing}"


model = os.environ.get("MODEL")
set_tracing_disabled(model is None)
agent = Agent[Any](name="buyer", model=model or Scripted(), tools=[price, buy])

desk = Worker.from_profile("cg-demo/worker-1")
desk.add("turn.conversation.v1", AdapterHandler(DurableAgent(agent, stream=model is not None)))

if __name__ == "__main__":
    run(desk)
