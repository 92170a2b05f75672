"""The agent alone, and in a workflow of DBOS, at each line of stdin; runs in its own environment.

Takes {"dsn", "model_url"} on the first line. As its documentation says, model calls are steps by
`DBOSRunner`, and tools by a decorator.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator"
# What it imports is in an environment of its own.

import asyncio
import json
import sys
from functools import partial
from typing import Any

import uvloop
from agents import function_tool
from dbos import DBOS
from dbos_openai_agents import DBOSRunner

from benchmarks.harnesses.asking import MAX_TURNS, agent_of, alone, look, say, timed


async def main(asked: dict[str, Any]) -> None:
    looker = agent_of(asked["model_url"], function_tool(DBOS.step()(look)))

    @DBOS.workflow()
    async def kept() -> Any:
        return (await DBOSRunner.run(looker, "go", max_turns=MAX_TURNS)).final_output

    DBOS.launch()
    say(ready=True)
    while await asyncio.to_thread(sys.stdin.readline):
        say(alone=await timed(partial(alone, looker)), kept=await timed(kept))


if __name__ == "__main__":
    asked = json.loads(sys.stdin.readline())
    DBOS(
        config={
            "name": "bench",
            "system_database_url": asked["dsn"],
            "run_admin_server": False,
            "log_level": "ERROR",
        }
    )
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(asked))
