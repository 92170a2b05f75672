"""Workers of many agents in one process, working off queued turns that do nothing.

Reads {"url", "agents", "count"} from stdin; prints the wall and CPU seconds that the work took, and when it
ended.
"""

import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

from cgworker import AgentRef, KernelClient, Turn, TurnReport, Worker, WorkerOptions, run


class Nothing(Worker):
    """Does nothing with each turn; `left` is how many turns all of them have before them."""

    workers: ClassVar[tuple[Worker, ...]] = ()
    left: ClassVar[int] = 0
    took: ClassVar[dict[str, float]] = {}
    ended_at: ClassVar[float] = 0.0

    async def handle(self, _: Turn) -> dict[str, Any]:
        return {}

    async def on_settled(self, report: TurnReport) -> None:
        if not report.settled:
            sys.stderr.write(f"not settled: {report}\n")
            os._exit(1)
        Nothing.left -= 1
        if Nothing.left == 0:
            Nothing.took, Nothing.ended_at = elapsed(), time.time()
            for worker in Nothing.workers:
                worker.drain()


def elapsed() -> dict[str, float]:
    """Since the process began, or as near to it as can be."""
    return {"seconds": time.perf_counter(), "cpu_seconds": time.process_time()}


def work(url: str, agents: list[dict[str, str]], count: int) -> None:
    Nothing.left = count
    with tempfile.TemporaryDirectory() as outbox:
        options = WorkerOptions(outbox_path=Path(outbox))
        Nothing.workers = tuple(Nothing(_kernel(url, agent), options=options) for agent in agents)
        begun = elapsed()
        run(*Nothing.workers, backend_options={"use_uvloop": True})
    took = {name: Nothing.took[name] - begun[name] for name in begun}
    sys.stdout.write(json.dumps({**took, "ended_at": Nothing.ended_at}) + "\n")


def _kernel(url: str, agent: dict[str, str]) -> KernelClient:
    ref = AgentRef(project_id=agent["project_id"], agent_id=agent["agent_id"])
    return KernelClient(url, agent=ref, token=agent["token"], timeout_seconds=30)


if __name__ == "__main__":
    logging.getLogger("cgworker").setLevel(logging.WARNING)
    asked = json.load(sys.stdin)
    work(asked["url"], asked["agents"], asked["count"])
