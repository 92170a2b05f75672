"""Random schedules of faults; what must hold holds in all of them."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import anyio
import pytest

from cgworker import KernelClient, KernelTrouble, Turn, TurnRef, Worker, WorkerOptions
from cgworker.testing import LocalKernel, local_kernel
from cgworker.wire.turns import TurnSnapshot
from tests.journeys.conftest import closed, history, working

VERBS = ["claim", "renew", "append", "finish", "get", "context"]
TURNS = 12


def plan(kernel: LocalKernel, draw: random.Random) -> list[str]:
    """Some faults, planned; what they are is told when a test fails."""
    planned = []
    for _ in range(draw.randint(4, 12)):
        verb, kind = draw.choice(VERBS), draw.choice(["drop_request", "drop_response", "answer", "delay"])
        match kind:
            case "answer":
                kernel.faults.answer(verb, draw.choice([429, 500, 503]), times=draw.randint(1, 3))
            case "delay":
                kernel.faults.delay(verb, draw.uniform(0.05, 1.5))
            case _:
                getattr(kernel.faults, kind)(verb, times=draw.randint(1, 2))
        planned.append(f"{kind} {verb}")
    return planned


async def seen_closed(desk: KernelClient, turn: TurnRef) -> TurnSnapshot:
    """The turn, once it is closed; the faults meet the observer as well."""
    with anyio.fail_after(60):
        while True:
            try:
                return await closed(desk, turn, seconds=60)
            except KernelTrouble:
                await anyio.sleep(0.05)


@pytest.mark.parametrize("seed", range(5))
async def test_every_turn_is_closed_once_with_the_payload_of_a_completed_run(
    seed: int, tmp_path: Path
) -> None:
    """Lost, slow, repeated and refused answers, and stolen leases: two workers close every turn once."""
    draw = random.Random(seed)
    completed: dict[str, list[str]] = {}
    async with local_kernel(lease_seconds=1.5) as kernel, await kernel.agent("desk", capacity=4) as desk:
        options = WorkerOptions(wait_seconds=1, outbox_path=tmp_path / "outbox", max_attempts=20)
        workers = [Worker(desk, options=options) for _ in range(2)]

        async def handle(turn: Turn) -> str:
            await turn.record({"attempt": turn.attempt})
            if draw.random() < 0.2:
                await kernel.faults.steal_lease(turn.ref)
            await anyio.sleep(draw.uniform(0, 0.3))
            result = f"{turn.ref.turn_id}#{turn.attempt}"
            completed.setdefault(turn.ref.turn_id, []).append(result)
            return result

        for worker in workers:
            worker.turn()(handle)
        turns = [await kernel.dispatch("desk", n) for n in range(TURNS)]
        planned = plan(kernel, draw)
        async with working(workers[0]), working(workers[1]):
            found = [await seen_closed(desk, turn) for turn in turns]
        for turn, snapshot in zip(turns, found, strict=True):
            events = Counter(await history(desk, turn))
            assert events["turn.finished"] == 1, planned
            assert snapshot.outcome == "succeeded", (planned, snapshot.final_payload)
            assert snapshot.final_payload in completed[turn.turn_id], planned
