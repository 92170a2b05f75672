"""An agent of pydantic-ai as a worker. A model request or tool call that was kept is not repeated.

Without MODEL a scripted model answers, which needs neither a key nor a network.

MODEL=openai:gpt-5 python examples/pydantic_agent.py
"""

import os

from pydantic_ai import Agent, ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from cgworker import AdapterHandler, Worker, run
from cgworker.adapters.pydantic_ai import PydanticAgent


def scripted(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Look the price up, buy, and say what came of it."""
    said = [part for message in messages for part in message.parts if part.part_kind == "tool-return"]
    if not said:
        return ModelResponse([ToolCallPart("price", {"thing": "a bell"})])
    if len(said) == 1:
        return ModelResponse([ToolCallPart("buy", {"thing": "a bell", "limit": said[0].content})])
    return ModelResponse([TextPart(f"{said[1].content}.")])


model = os.environ.get("MODEL")
agent = Agent(model or FunctionModel(scripted), name="buyer")


@agent.tool_plain
def price(thing: str) -> int:
    """Return the price of a thing."""
    return 7 * len(thing)


@agent.tool_plain(requires_approval=True)
def buy(thing: str, limit: int) -> str:
    """Buy a thing; a person approves it first, by `cg turn answer`."""
    return f"bought {thing} for {limit}"


desk = Worker.from_profile("cg-demo/worker-1")
desk.add("turn.conversation.v1", AdapterHandler(PydanticAgent(agent, stream=model is not None)))

if __name__ == "__main__":
    run(desk)
