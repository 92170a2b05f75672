"""A worker whose handlers fork, told by its environment whom to work for and on which event loop."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from cgworker import AgentRef, KernelClient, Turn, Worker, WorkerOptions, run

FORK = multiprocessing.get_context("fork")


def sleep_long() -> None:
    """What a child does until it is ended."""
    time.sleep(30)


def end_a_child() -> dict[str, Any]:
    """Begin a process, and end it as one does: by SIGTERM."""
    child = FORK.Process(target=sleep_long)
    child.start()
    time.sleep(0.3)
    child.terminate()
    child.join(10)
    return {"exit": child.exitcode}


def square(number: int) -> int:
    """Work for a pool."""
    return number * number


def use_a_pool() -> dict[str, Any]:
    """Work in other processes."""
    with ProcessPoolExecutor(2, mp_context=FORK) as pool:
        return {"squares": list(pool.map(square, range(4)))}


def break_a_pool() -> dict[str, Any]:
    """One of its processes is killed, as by the system for want of memory; the pool ends the others."""
    pool = ProcessPoolExecutor(2, mp_context=FORK)
    asked = [pool.submit(sleep_long) for _ in range(2)]
    time.sleep(0.5)
    os.kill(next(iter(pool._processes)), signal.SIGKILL)  # noqa: SLF001  # nobody else knows their pids
    try:
        asked[0].result(15)
    except BrokenProcessPool:
        pool.shutdown()
        return {"broken": True}
    return {"broken": False}


def come_back_from_a_fork() -> dict[str, Any]:
    """The child forgets to end: it raises, in what is its parent's code."""
    if (child := os.fork()) == 0:
        raise RuntimeError("the child comes back")
    _, status = os.waitpid(child, 0)
    return {"exit": os.waitstatus_to_exitcode(status)}


WAYS: dict[str, Callable[[], dict[str, Any]]] = {
    function.__name__: function for function in (end_a_child, use_a_pool, break_a_pool, come_back_from_a_fork)
}


async def handle(_: Turn, input: dict[str, str]) -> dict[str, Any]:
    """In the event loop's thread, or in one of its own, as the input says."""
    if input["where"] == "thread":
        return await anyio.to_thread.run_sync(WAYS[input["way"]])
    return WAYS[input["way"]]()


def handle_in_thread(turn: Turn, input: dict[str, str]) -> dict[str, Any]:
    """As a function that is not async."""
    assert turn.attempt == 1
    return WAYS[input["way"]]()


def main() -> None:
    """Work until told to stop."""
    kernel = KernelClient(
        os.environ["BASE_URL"],
        agent=AgentRef(project_id=os.environ["PROJECT"], agent_id="desk"),
        token=os.environ["TOKEN"],
    )
    options = WorkerOptions(
        wait_seconds=5, grace_seconds=2, interrupt_seconds=1, outbox_path=Path(os.environ["OUTBOX"])
    )
    worker = Worker(kernel, options=options)
    worker.add("turn.conversation.v1", handle_in_thread if os.environ["SYNC"] == "1" else handle)
    run(worker, backend=sys.argv[1])


if __name__ == "__main__":
    main()
