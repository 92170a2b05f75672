"""A worker whose turns read all records (`turn.records.v1`), look at each (`turn.looked.v1`) or write a text.

Takes {"url", "project_id", "agent_id", "token", "size"} on the first line of stdin; the text has `size`
characters. Says "ready", and at the next line the CPU time that it has taken.
"""

import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from cgworker import AgentRef, KernelClient, Turn, Worker, WorkerOptions
from cgworker.worker.process.gc_tuning import relax_gc

WORDS = ("reading", "the", "file", "answer", "of", "model", "tool", "call")


def text_of(size: int) -> str:
    """Words and numbers, as a model or a tool would write them."""
    chosen = random.Random(1)
    return " ".join(f"{chosen.choice(WORDS)} {chosen.getrandbits(32):x}" for _ in range(size // 4))[:size]


def say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def main(asked: dict[str, Any]) -> None:
    agent = AgentRef(project_id=asked["project_id"], agent_id=asked["agent_id"])
    result = {"text": text_of(asked["size"])}
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(
            KernelClient(asked["url"], agent=agent, token=asked["token"]),
            options=WorkerOptions(outbox_path=Path(folder) / "outbox"),
        )

        @worker.turn("turn.records.v1")
        async def read(turn: Turn) -> int:
            return len(await turn.records())

        @worker.turn("turn.looked.v1")
        async def look(turn: Turn) -> int:
            return sum("step" in record.payload for record in await turn.records())

        @worker.turn()
        async def write(_: Turn) -> dict[str, str]:
            return result

        async with anyio.create_task_group() as group:
            await group.start(worker.run)
            relax_gc()  # as `cgworker.run` and `cg worker` do
            begun = time.process_time()
            say(True)
            await anyio.to_thread.run_sync(sys.stdin.readline)
            say(time.process_time() - begun)
            group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, json.loads(sys.stdin.readline()), backend_options={"use_uvloop": True})
