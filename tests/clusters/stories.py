"""What must be true on each kind of cluster; `test_ray.py` and `test_dask.py` run these stories."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from cgworker import Worker, WorkerOptions
from cgworker.adapters.cluster import ClusterHandler
from cgworker.testing import LocalKernel
from tests.clusters import functions
from tests.journeys.conftest import closed, in_state, working

MakeHandler = Callable[..., ClusterHandler]

_SECONDS = 240  # a busy machine takes long to start a process


async def until(is_so: Callable[[], bool]) -> None:
    """Return once something is so that processes of the cluster bring about."""
    with anyio.fail_after(_SECONDS):
        while not is_so():  # noqa: ASYNC110  # they tell no event
            await anyio.sleep(0.05)


async def started(folder: Path, count: int = 1) -> list[int]:
    """The ids of the processes that `sleeps` or `stubborn` run in, once there are so many."""
    await until(lambda: len(marked(folder, "started")) >= count)
    return marked(folder, "started")


def marked(folder: Path, what: str) -> list[int]:
    """The ids of the processes that noted this."""
    return sorted(int(each.name.partition("-")[2]) for each in folder.glob(f"{what}-*"))


def is_running(pid: int) -> bool:
    """Whether there is a process with this id."""
    return Path(f"/proc/{pid}").exists()


async def results(kernel: LocalKernel, handlers: dict[str, tuple[ClusterHandler, Any]]) -> dict[str, Any]:
    """The payloads of turns, by the kind that their handler and input have."""
    async with await kernel.agent("desk", capacity=len(handlers), kinds=list(handlers)) as desk:
        worker = Worker(desk)
        for kind, (handler, _) in handlers.items():
            worker.add(kind, handler)
        turns = {
            kind: await kernel.dispatch("desk", given, kind=kind) for kind, (_, given) in handlers.items()
        }
        async with working(worker):
            return {
                kind: (await closed(desk, turn, seconds=_SECONDS)).final_payload
                for kind, turn in turns.items()
            }


async def functions_give_their_results(kernel: LocalKernel, make: MakeHandler) -> None:
    """Plain ones, coroutines, those that ask for their turn, outcomes, errors, wrong input, large results."""
    found = await results(
        kernel,
        {
            "turn.add": (make(functions.add), {"left": 2, "right": 3}),
            "turn.later": (make(functions.later), 4),
            "turn.who": (make(functions.who), "me"),
            "turn.declines": (make(functions.declines), "you"),
            "turn.raises": (make(functions.raises), "this"),
            "turn.wrong": (make(functions.add), {"left": "two", "right": 3}),
            "turn.large": (make(functions.large), 200_000_000),
            "turn.megabyte": (make(functions.large), 1_000_000),
        },
    )
    assert found["turn.add"] == 5, found["turn.add"]
    assert found["turn.later"] == 5
    assert found["turn.who"] | {"turn": None} == {
        "turn": None,
        "kind": "turn.who",
        "attempt": 1,
        "input": "me",
    }
    assert found["turn.declines"] == {"error": "no_luck", "for": "you"}
    assert (found["turn.raises"]["type"], found["turn.raises"]["message"]) == (
        "ValueError",
        "cannot work this",
    )
    assert found["turn.wrong"]["error"] == "invalid_input"
    assert found["turn.large"]["error"] == "result_too_large"
    assert "200000" in found["turn.large"]["message"]
    assert len(found["turn.megabyte"]) == 1_000_000


async def a_lost_process_costs_nothing(
    kernel: LocalKernel, make: MakeHandler, folder: Path, kill: Callable[[int], object]
) -> None:
    """The cluster runs the function again, in the same attempt, while the worker keeps the lease."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk)
        worker.add(None, make(functions.sleeps))
        turn = await kernel.dispatch("desk", {"folder": str(folder)})
        async with working(worker):
            kill((await started(folder))[0])
            await started(folder, 2)
            (folder / "go").touch()
            assert (await closed(desk, turn, seconds=_SECONDS)).final_payload == "slept"
        events = [each.event_type for each in (await desk.turns.feed(turn)).items]
        assert events.count("turn.claimed") == 1


async def a_deadly_function_fails_its_turn(kernel: LocalKernel, make: MakeHandler, error: str) -> None:
    """It ends each process that it is given, so that the cluster gives up."""
    found = await results(kernel, {"turn.dies": (make(functions.dies), "x")})
    assert found["turn.dies"]["type"] == error


async def a_stop_ends_the_function(kernel: LocalKernel, make: MakeHandler, folder: Path) -> None:
    """The turn is stopped, the function is not left running, and the next turn is worked."""
    async with await kernel.agent(
        "desk", kinds=["turn.sleeps", "turn.add"], grants=["turn.stop.any"]
    ) as desk:
        worker = Worker(desk, options=WorkerOptions(interrupt_seconds=4))
        worker.add("turn.sleeps", make(functions.sleeps))
        worker.add("turn.add", make(functions.add))
        turn = await kernel.dispatch("desk", {"folder": str(folder)}, kind="turn.sleeps")
        async with working(worker):
            [pid] = await started(folder)
            assert desk.agent is not None
            await desk.turns.stop(turn, requested_by=desk.agent)
            assert (await closed(desk, turn, seconds=_SECONDS)).outcome == "stopped"
            await until(lambda: not is_running(pid) or pid in marked(folder, "interrupted"))
            following = await kernel.dispatch("desk", {"left": 1, "right": 1}, kind="turn.add")
            assert (await closed(desk, following, seconds=_SECONDS)).final_payload == 2


async def a_deadline_ends_a_stubborn_function(kernel: LocalKernel, make: MakeHandler, folder: Path) -> None:
    """Its process is ended when it does not follow."""
    async with await kernel.agent("desk") as desk:
        options = WorkerOptions(time_limit_seconds=15, interrupt_seconds=4)
        worker = Worker(desk, options=options)
        worker.add(None, make(functions.stubborn))
        turn = await kernel.dispatch("desk", {"folder": str(folder)})
        async with working(worker):
            [pid] = await started(folder)
            found = await closed(desk, turn, seconds=_SECONDS)
            assert found.final_payload["error"] == "deadline_exceeded"
            await until(lambda: not is_running(pid))


async def a_shutdown_hands_the_turn_back(kernel: LocalKernel, make: MakeHandler, folder: Path) -> None:
    """It is queued for another worker, which then works it."""
    async with await kernel.agent("desk") as desk:
        options = WorkerOptions(grace_seconds=0.2, interrupt_seconds=4)
        worker = Worker(desk, options=options)
        worker.add(None, make(functions.sleeps))
        turn = await kernel.dispatch("desk", {"folder": str(folder)})
        async with working(worker):
            await started(folder)
        await in_state(desk, turn, "queued", seconds=_SECONDS)
        (folder / "go").touch()
        other = Worker(desk)
        other.add(None, make(functions.sleeps))
        async with working(other):
            assert (await closed(desk, turn, seconds=_SECONDS)).final_payload == "slept"


async def many_short_turns(kernel: LocalKernel, make: MakeHandler, count: int) -> None:
    """Each is worked once."""
    async with await kernel.agent("desk", capacity=16) as desk:
        worker = Worker(desk, options=WorkerOptions(concurrency=16))
        worker.add(None, make(functions.later))
        turns = [await kernel.dispatch("desk", number) for number in range(count)]
        async with working(worker):
            for number, turn in enumerate(turns):
                assert (await closed(desk, turn, seconds=900)).final_payload == number + 1


def kill(pid: int) -> None:
    """Kill a process."""
    os.kill(pid, 9)
