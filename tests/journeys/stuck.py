"""A worker whose handlers do not end, told by its environment whom to work for and on which event loop."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from pathlib import Path

import anyio

from cgworker import AgentRef, KernelClient, Turn, Worker, WorkerOptions, run

NEVER = threading.Event()


def wait_in_thread(_: Turn) -> None:
    """A call into a library that does not come back."""
    NEVER.wait()


async def wait_shielded(_: Turn) -> None:
    """A task that nobody can end."""
    with anyio.CancelScope(shield=True):
        await anyio.sleep_forever()


async def wait_in_a_thread_of_its_own(_: Turn) -> None:
    """The task ends; the thread does not, and asyncio waits for it when its loop ends."""
    await asyncio.to_thread(NEVER.wait)


async def block_the_loop(_: Turn) -> None:
    """Nothing else is heard of in the event loop, signals neither."""
    time.sleep(300)  # noqa: ASYNC251  # that is the point


def main() -> None:
    """Work until told to stop."""
    agent = AgentRef(project_id=os.environ["PROJECT"], agent_id=os.environ["AGENT"])
    kernel = KernelClient(os.environ["BASE_URL"], agent=agent, token=os.environ["TOKEN"])
    way, ended_by, backend = sys.argv[1:]
    options = WorkerOptions(
        wait_seconds=5,
        grace_seconds=0.2,
        interrupt_seconds=0.2,
        time_limit_seconds=0.2 if ended_by == "on_stuck" else None,
        on_stuck="drain" if ended_by == "on_stuck" else "release",
        outbox_path=Path(os.environ["OUTBOX"]),
    )
    run(Worker(kernel, globals()[way], options=options), backend=backend)


if __name__ == "__main__":
    main()
