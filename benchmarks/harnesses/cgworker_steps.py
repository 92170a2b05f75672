"""A worker whose turns run the agent twice: alone, and with private steps in a folder.

Takes {"url", "project_id", "agent_id", "token", "model_url"} on the first line of stdin. The turn kind
`turn.steps.v1` makes a thousand private steps instead, sleeps, and says what CPU time they then take again.
"""

import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from agents import function_tool

from benchmarks.harnesses.asking import MAX_TURNS, agent_of, alone, look, say, timed
from cgworker import AdapterHandler, AgentRef, FolderStore, KernelClient, Turn, Worker, WorkerOptions
from cgworker.adapters.openai_agents import DurableAgent
from cgworker.worker.process.gc_tuning import relax_gc

STEPS = 1000
STEPS_KIND = "turn.steps.v1"


async def main(asked: dict[str, Any]) -> None:
    agent = AgentRef(project_id=asked["project_id"], agent_id=asked["agent_id"])
    looker = agent_of(asked["model_url"], function_tool(look))
    durable = AdapterHandler(DurableAgent(looker, stream=False, run={"max_turns": MAX_TURNS}))
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(
            KernelClient(asked["url"], agent=agent, token=asked["token"]),
            options=WorkerOptions(
                outbox_path=Path(folder) / "outbox", private_store=FolderStore(Path(folder) / "private")
            ),
        )

        @worker.turn()
        async def both(turn: Turn) -> None:
            took = {"alone": await timed(partial(alone, looker)), "kept": await timed(partial(durable, turn))}
            say(**took)

        worker.turn(STEPS_KIND)(many_steps)
        async with anyio.create_task_group() as group:
            await group.start(worker.run)
            relax_gc()  # as `cgworker.run` and `cg worker` do
            say(ready=True)


async def many_steps(turn: Turn) -> None:
    """Say the CPU time of the second attempt, which finds all steps done."""
    begun = time.process_time()
    for number in range(STEPS):
        await turn.once(f"step#{number}", lambda: {"text": "all is well. " * 80}, private=True)
    if await turn.records("slept"):
        say(cpu_seconds=time.process_time() - begun)
    else:
        await turn.record({}, "slept")
        await turn.sleep(0.05, key="nap")


if __name__ == "__main__":
    anyio.run(main, json.loads(sys.stdin.readline()), backend_options={"use_uvloop": True})
