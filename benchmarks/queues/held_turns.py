"""Workers of many agents in one process, each of which holds a turn that sleeps.

Takes a file with {"url", "project_id", "agents"}. Prints a line when it begins, with its memory; another when
it holds a turn of each agent; and at SIGTERM a third, with what it holds then and what it lost.
"""

import gc
import json
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio

from cgworker import AgentRef, KernelClient, Turn, Worker, WorkerOptions
from cgworker.events import Event, LeaseEnded


class Sleeps:
    """What all workers have before them and behind them."""

    def __init__(self, count: int) -> None:
        self.left, self.lost = count, 0
        self.all_held = anyio.Event()

    async def __call__(self, _: Turn) -> None:
        self.left -= 1
        if self.left == 0:
            self.all_held.set()
        await anyio.sleep_forever()

    def listen(self, event: Event) -> None:
        self.lost += isinstance(event, LeaseEnded)


async def main(asked: dict[str, Any]) -> None:
    sleeps = Sleeps(len(asked["agents"]))

    async def handle(turn: Turn) -> None:
        await sleeps(turn)

    say(memory_mib=memory_mib())
    with tempfile.TemporaryDirectory() as outbox:
        options = WorkerOptions(outbox_path=Path(outbox))
        workers = []
        for agent_id, token in asked["agents"]:
            ref = AgentRef(project_id=asked["project_id"], agent_id=agent_id)
            kernel = KernelClient(asked["url"], agent=ref, token=token, timeout_seconds=30)
            workers.append(Worker(kernel, handle, options=options, listener=sleeps.listen))
        async with anyio.create_task_group() as group:
            for worker in workers:
                group.start_soon(worker.run)
            await sleeps.all_held.wait()
            gc.freeze()  # as docs/how-to/many-agents.md advises: to look through all of it takes seconds
            say(held=len(workers))
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    break
            say(held=sum(worker.held_count for worker in workers), lost=sleeps.lost)
            os._exit(0)  # to hand them all back is not what is measured


def say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def memory_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    logging.getLogger("cgworker").setLevel(logging.ERROR)
    anyio.run(main, json.loads(Path(sys.argv[1]).read_text()), backend_options={"use_uvloop": True})
