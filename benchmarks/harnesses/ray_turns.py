"""A worker with a `RayHandler`, in a program that also calls Ray directly, in alternation.

Takes {"url", "project_id", "agent_id", "token"} on the first line of stdin. Each further line has it make a
number of them, and say the seconds of each call and of each turn, from its dispatch until it is settled, and
their mean CPU time in this program.
"""

import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import ray

from cgworker import AgentRef, KernelClient, Turn, Worker, WorkerOptions, events
from cgworker.adapters.ray import RayHandler
from cgworker.wire.turns import CONVERSATION_KIND, Dispatch, RootRequest

PLAIN_KIND = "turn.plain.v1"


def say(**what: Any) -> None:
    """Print a line of JSON at once."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def add(input: dict[str, int]) -> int:
    """Add two numbers."""
    return input["left"] + input["right"]


async def main(asked: dict[str, Any]) -> None:
    agent = AgentRef(project_id=asked["project_id"], agent_id=asked["agent_id"])
    say(ready=True)  # Ray takes seconds more
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    settled = anyio.Event()

    def listen(event: events.Event) -> None:
        if isinstance(event, events.TurnSettled):
            settled.set()

    with tempfile.TemporaryDirectory() as folder:
        kernel = KernelClient(asked["url"], agent=agent, token=asked["token"])
        options = WorkerOptions(outbox_path=Path(folder) / "outbox")
        worker = Worker(kernel, options=options, listener=listen)
        worker.add(CONVERSATION_KIND, RayHandler(add, num_cpus=1))

        @worker.turn(PLAIN_KIND)
        async def plain(_: Turn, input: dict[str, int]) -> int:
            return add(input)

        remote = ray.remote(add).options(num_cpus=1)

        async def turn(kind: str) -> None:
            nonlocal settled
            settled, key = anyio.Event(), secrets.token_hex(8)
            await kernel.turns.dispatch(
                Dispatch(
                    requested_by=agent,
                    target_agent=agent,
                    turn_kind=kind,
                    input={"left": 1, "right": 2},
                    dispatch_key=key,
                    authority=RootRequest(request_id=key),
                )
            )
            await settled.wait()

        async def direct() -> None:
            assert await remote.remote({"left": 1, "right": 2}) == 3

        contestants: dict[str, Callable[[], Awaitable[None]]] = {
            "direct": direct,
            "turn": partial(turn, CONVERSATION_KIND),
            "plain": partial(turn, PLAIN_KIND),
        }
        async with anyio.create_task_group() as group:
            await group.start(worker.run)
            while line := await anyio.to_thread.run_sync(sys.stdin.readline):
                took: dict[str, list[float]] = {name: [] for name in contestants}
                cpu = dict.fromkeys(contestants, 0.0)
                for _ in range(int(line)):
                    for name, run in contestants.items():
                        begun, used = time.perf_counter(), time.process_time()
                        await run()
                        took[name].append(time.perf_counter() - begun)
                        cpu[name] += (time.process_time() - used) / int(line)
                say(took=took, cpu=cpu)
            group.cancel_scope.cancel()


if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    anyio.run(main, json.loads(sys.stdin.readline()))
