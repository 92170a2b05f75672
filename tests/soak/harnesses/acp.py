"""A coding agent that speaks ACP, in a process of its own; all its calls are those of tools.

`python -m tests.soak.harnesses.acp CALLS SQUARE` is the agent. It has no sessions that it can load.
"""

from __future__ import annotations

import asyncio
import json
import sys

from attrs import asdict

from cgworker.adapters.acp import ACPAgent
from cgworker.wire.converter import dumps
from tests.adapters.coding_agent import be_agent
from tests.soak.harnesses import CALLS, ROOT, Calls, Run


def adapter_for(run: Run) -> ACPAgent:
    """The adapter of the agent."""
    argv = [sys.executable, "-m", __name__, dumps(asdict(run.calls)).decode(), str(run.square)]
    return ACPAgent(argv, cwd=ROOT, permit=lambda asked: asked.option("allow_once"))


def main(calls: Calls, square: str) -> None:
    """Be the agent."""

    def point(call: str, stage: str) -> None:
        if stage == "asked":
            calls.make_blocking(call)

    asyncio.run(be_agent(point, {call: f"{call}: {square}" for call in CALLS}))


if __name__ == "__main__":
    main(Calls(**json.loads(sys.argv[1])), sys.argv[2])
