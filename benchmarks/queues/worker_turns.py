"""Workers of many agents in one process, working off queued turns that do nothing.

Reads {"url", "agents", "count"} from stdin; prints the wall and CPU seconds that the work took.
"""

import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio

from cgworker import AgentRef, KernelClient, Turn, TurnReport, Worker, WorkerOptions
from cgworker.worker.serve import serve


class Nothing(Worker):
    """Does nothing with each turn; `left` is how many turns all of them have before them."""

    left = 0
    done = anyio.Event()

    async def handle(self, _: Turn) -> dict[str, Any]:
        return {}

    async def on_settled(self, report: TurnReport) -> None:
        if not report.settled:
            raise SystemExit(f"not settled: {report}")
        Nothing.left -= 1
        if Nothing.left == 0:
            Nothing.done.set()


async def main(url: str, agents: list[dict[str, str]], count: int) -> None:
    Nothing.left, Nothing.done = count, anyio.Event()
    with tempfile.TemporaryDirectory() as outbox:
        options = WorkerOptions(outbox_path=Path(outbox))
        workers = tuple(Nothing(_kernel(url, agent), options=options) for agent in agents)
        begun, cpu = time.perf_counter(), time.process_time()
        async with anyio.create_task_group() as group:
            group.start_soon(serve, workers)
            await Nothing.done.wait()
            took = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - cpu}
            for worker in workers:
                worker.drain()
    sys.stdout.write(json.dumps(took) + "\n")


def _kernel(url: str, agent: dict[str, str]) -> KernelClient:
    ref = AgentRef(project_id=agent["project_id"], agent_id=agent["agent_id"])
    return KernelClient(url, agent=ref, token=agent["token"], timeout_seconds=30)


if __name__ == "__main__":
    logging.getLogger("cgworker").setLevel(logging.WARNING)
    asked = json.load(sys.stdin)
    anyio.run(main, asked["url"], asked["agents"], asked["count"], backend_options={"use_uvloop": True})
