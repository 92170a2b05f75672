"""Claude Code, whose model is on loopback."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, create_sdk_mcp_server, tool

from cgworker.adapters.claude import ClaudeAgent
from tests.adapters.claude_endpoint import Block, call, endpoint, environment, text
from tests.soak.harnesses import Run


def adapter_for(run: Run) -> ClaudeAgent:
    """The agent, with a home of its machine."""
    home = Path(os.environ["XDG_STATE_HOME"]) / "claude"
    home.mkdir(parents=True, exist_ok=True)
    make = run.calling_from_threads()
    known = f"the square is {run.square}"

    @tool("square", "Square the number.", {})
    async def square(_: Any) -> dict[str, Any]:
        await run.calls.make("square")
        return {"content": [{"type": "text", "text": known}]}

    def answer(results: Sequence[Block]) -> Sequence[Block]:
        if known in str(model.asked[-1]):  # in a result, or in the prompt to go on
            make("model2")
            return [text(known)]
        if not results:
            make("model1")
        # Else the call was cut off. Whether to make it again is a question that was not answered before.
        return [call(f"toolu_{len(results)}", "mcp__numbers__square")]

    model = run.ends.enter_context(endpoint(answer))
    return ClaudeAgent(
        ClaudeAgentOptions(
            mcp_servers={"numbers": create_sdk_mcp_server("numbers", tools=[square])},
            allowed_tools=["mcp__numbers__square"],
            cwd=home,
            env=environment(model.url, home),
            setting_sources=[],
            tools=[],
            model="claude-sonnet-4-5",
        )
    )
