"""A scripted coding agent that looks two things up, and kills its worker at a point of that.

`python coding_agent.py FOLDER KILL_AT PID` is the agent. It has no sessions that it can load, as on another
machine, and believes what it is told of the calls that have ended.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from cgworker.adapters.acp import ACPAgent
    from tests.adapters.killed import Script


def scripted(script: Script) -> ACPAgent:
    """The adapter of the agent, which needs no permission of people."""
    from cgworker.adapters.acp import ACPAgent

    argv = [sys.executable, __file__, str(script.folder), script.kill_at, str(os.getpid())]
    return ACPAgent(argv, permit=lambda asked: asked.option("allow_once"))


def main(folder: Path, kill_at: str, worker: int) -> None:
    """Be the agent that looks two things up, and notes it in the folder."""

    def point(call: str, stage: str) -> None:
        with (folder / "calls").open("a") as calls:
            calls.write(f"{call} {stage}\n")
        if f"{call} {stage}" == kill_at:
            os.kill(worker, signal.SIGKILL)
            signal.pause()  # until the worker's guard ends this process as well

    asyncio.run(be_agent(point, {f"look {what}": f"{what} is 7;" for what in "ab"}))


async def be_agent(point: Callable[[str, str], None], results: Mapping[str, str]) -> None:
    """Be an agent that makes these calls one by one, with these results.

    Args:
        point: called with a call and the stage it has come to.
        results: what comes of each call.
    """
    import acp
    from acp import schema

    class Looking:
        def on_connect(self, conn: acp.Client) -> None:
            self._client = conn

        async def initialize(self, protocol_version: int, **_said: Any) -> acp.InitializeResponse:
            return acp.InitializeResponse(
                protocol_version=protocol_version, agent_capabilities=schema.AgentCapabilities()
            )

        async def new_session(self, **_said: Any) -> acp.NewSessionResponse:
            return acp.NewSessionResponse(session_id="1")

        async def prompt(self, session_id: str, prompt: list[Any], **_said: Any) -> acp.PromptResponse:
            told = "".join(block.text for block in prompt)
            for call, result in results.items():
                if f'"output":"{result}"' not in told:
                    await self._make(session_id, call, result)
            said = acp.update_agent_message_text(f"done: {' '.join(results.values())}")
            await self._client.session_update(session_id, said)
            return acp.PromptResponse(stop_reason="end_turn")

        async def _make(self, session_id: str, call: str, result: str) -> None:
            point(call, "before")
            begun = acp.start_tool_call(call, call, kind="search", status="in_progress")
            await self._client.session_update(session_id, begun)
            point(call, "asked")
            ended = acp.update_tool_call(call, status="completed", raw_output=result)
            await self._client.session_update(session_id, ended)
            # A permission is answered after the updates before it were taken.
            option = schema.PermissionOption(option_id="yes", name="Yes", kind="allow_once")
            await self._client.request_permission(
                session_id, schema.ToolCallUpdate(tool_call_id="next"), [option]
            )
            point(call, "answered")

    await acp.run_agent(cast("Any", Looking()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
