"""An agent of the chat adapter, which speaks to an OpenAI-compatible endpoint."""

from __future__ import annotations

import os
from typing import Any

from cgworker import Turn
from cgworker.adapters.openai import ChatAdapter
from cgworker.adapters.tools import function_tool
from tests.adapters.endpoint import calls, says, serving
from tests.soak.harnesses import Run


def adapter_for(run: Run) -> ChatAdapter:
    """The agent, with a model on loopback."""
    os.environ["OPENAI_API_KEY"] = "none"

    async def square(_turn: Turn, _input: dict[str, Any]) -> int:
        """Return the square of the number."""
        await run.calls.make("square")
        return run.square

    return ChatAdapter(
        model="scripted", base_url=model_url(run, calls(("square", {}))), tools=[function_tool(square)]
    )


def model_url(run: Run, wanted: Any) -> str:
    """The address of a model that calls the tool, and says what came of it."""
    make = run.calling_from_threads()

    def answer(request: dict[str, Any]) -> Any:
        told = [message["content"] for message in request["messages"] if message["role"] == "tool"]
        make("model2" if told else "model1")
        return says(str(told[0]).split("\n")[0]) if told else wanted

    return run.ends.enter_context(serving(answer)).base_url
