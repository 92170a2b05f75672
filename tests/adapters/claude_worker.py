"""A worker whose agent is Claude Code, which pays by a tool; at a point of that it kills its process group.

The file `worker` of its folder names the group.

python -m tests.adapters.claude_worker KERNEL PROJECT TOKEN MODEL FOLDER KILL_AT APPROVE
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from cgworker import (
    AdapterHandler,
    AgentRef,
    KernelClient,
    ObjectStore,
    Worker,
    WorkerOptions,
    key_from_file,
    run,
)
from cgworker.adapters.claude import ClaudeAgent
from tests.adapters.claude_endpoint import options


def worker_for(
    kernel: KernelClient, model: str, folder: Path, *, home: Path, approve: bool, kill_at: str = ""
) -> Worker:
    """A worker with a home of its own and the store that all share."""

    def at(point: str) -> None:
        if point == kill_at:
            os.killpg(0, signal.SIGKILL)

    home.mkdir(exist_ok=True)
    given: Any = options(model, home, paid=folder / "paid", at=at)
    store = ObjectStore((folder / "objects").as_uri(), key=key_from_file(folder / "key"))
    agent = ClaudeAgent(given, approve=["mcp__bank__pay"] if approve else [])
    told = WorkerOptions(wait_seconds=5, concurrency=1, private_store=store)
    return Worker(kernel, AdapterHandler(agent), options=told)


if __name__ == "__main__":
    url, project, token, model, folder, kill_at, approve = sys.argv[1:]
    desk = KernelClient(url, agent=AgentRef(project_id=project, agent_id="desk"), token=token)
    place = Path(folder)
    (place / "worker").write_text(f"{os.getpgrp()}")
    run(worker_for(desk, model, place, home=place / "first", approve=approve == "yes", kill_at=kill_at))
