"""A worker that says when it runs a handler.

Takes {"url", "project_id", "agent_id", "token"} on the first line of stdin.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio

from cgworker import AgentRef, KernelClient, Turn, Worker, WorkerOptions


async def main(asked: dict[str, Any]) -> None:
    agent = AgentRef(project_id=asked["project_id"], agent_id=asked["agent_id"])
    with tempfile.TemporaryDirectory() as outbox:
        worker = Worker(
            KernelClient(asked["url"], agent=agent, token=asked["token"]),
            handle,
            options=WorkerOptions(outbox_path=Path(outbox)),
        )
        async with anyio.create_task_group() as group:
            await group.start(worker.run)
            say(ready=True)


async def handle(_: Turn) -> None:
    say(handled_at=time.time())


def say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    anyio.run(main, json.loads(sys.stdin.readline()), backend_options={"use_uvloop": True})
