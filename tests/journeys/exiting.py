"""A worker whose handlers' tasks raise what ends an event loop, told by its environment whom to work for."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.to_thread

from cgworker import AgentRef, KernelClient, Turn, Worker, WorkerOptions, run

RAISED = {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}


async def raise_soon(name: str) -> None:
    """What a task of a handler's does."""
    await anyio.sleep(0.1)
    raise RAISED[name](3)


async def in_a_task(name: str) -> None:
    """A task that the handler waits for."""
    await asyncio.create_task(raise_soon(name))


async def in_a_task_group(name: str) -> None:
    """One of several tasks."""
    async with asyncio.TaskGroup() as group:
        group.create_task(raise_soon(name))
        group.create_task(asyncio.sleep(10))


async def in_anyios_task_group(name: str) -> None:
    """The same, of the library that the worker uses."""
    async with anyio.create_task_group() as group:
        group.start_soon(raise_soon, name)
        group.start_soon(anyio.sleep, 10)


async def in_a_tasks_task(name: str) -> None:
    """A task of a task."""
    await asyncio.gather(in_a_task(name), asyncio.sleep(0))


async def in_a_thread(name: str) -> None:
    """A thread of the handler's begins a task in the event loop."""
    await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(raise_soon, name))


async def in_a_callback(name: str) -> None:
    """No task at all."""

    def exit_now() -> None:
        raise RAISED[name](3)

    asyncio.get_running_loop().call_later(0.1, exit_now)
    await asyncio.sleep(1)


WAYS = {
    function.__name__: function
    for function in (
        in_a_task,
        in_a_task_group,
        in_anyios_task_group,
        in_a_tasks_task,
        in_a_thread,
        in_a_callback,
    )
}


async def handle(_: Turn, input: dict[str, str]) -> str:
    """In the way that the input says; without one, what another handler does meanwhile."""
    if "way" in input:
        await WAYS[input["way"]](input["raise"])
    else:
        await anyio.sleep(1)
    return "done"


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
    loop = sys.argv[1]
    run(
        Worker(kernel, handle, options=options),
        backend="trio" if loop == "trio" else "asyncio",
        backend_options={"use_uvloop": True} if loop == "uvloop" else None,
    )


if __name__ == "__main__":
    main()
