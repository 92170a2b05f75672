"""A worker for `test_kills.py`, in a process that can be killed: a parent of a hundred, or one that squares.

python -m tests.journeys.fan_out ROLE URL PROJECT AGENT COUNT JOURNAL; the credential is in CG_TEST_TOKEN.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import anyio

from cgworker import AgentRef, KernelClient, Turn, Worker, WorkerOptions, run


def main(role: str, url: str, project: str, agent: str, count: str, journal: str) -> None:
    """Work until ended."""
    kernel = KernelClient(
        url, agent=AgentRef(project_id=project, agent_id=agent), token=os.environ["CG_TEST_TOKEN"]
    )
    worker = Worker(kernel, options=WorkerOptions(concurrency=4, wait_seconds=5))

    async def square(_: Turn, n: int) -> int:
        with open(journal, "a") as ran:  # noqa: ASYNC230, PTH123  # one line, whole, whatever happens next
            ran.write(f"{n}\n")
        await anyio.sleep(0.01)
        return n * n

    async def add_up(turn: Turn) -> Any:
        found = await turn.children({str(n): turn.child("expert", n) for n in range(int(count))})
        return await turn.once("sum", lambda: sum(result.payload for result in found.values()))

    worker.turn()(square if role == "expert" else add_up)
    run(worker)


if __name__ == "__main__":
    main(*sys.argv[1:])
