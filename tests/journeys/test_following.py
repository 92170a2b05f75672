"""Following: a reader sees records as they are made, and nothing it does touches the turn."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import anyio
import pytest

from cgworker import AgentRef, KernelClient, Turn, TurnRef, Worker, WorkerOptions
from cgworker.errors import KernelTrouble
from cgworker.testing import LocalKernel
from tests.journeys.conftest import closed, working


async def test_a_follower_sees_every_record_once_while_it_is_made(kernel: LocalKernel) -> None:
    """From the first to the last, over pages, and it ends with the turn."""
    async with await kernel.agent("desk") as desk, await kernel.agent("reader") as reader:
        worker = Worker(desk, options=WorkerOptions(wait_seconds=5))
        is_seen = anyio.Event()

        @worker.turn()
        async def talk(turn: Turn) -> str:
            await turn.record(0)
            await is_seen.wait()  # made one after the other, not found together at the end
            for number in range(1, 150):
                await turn.record(number)
            return "done"

        turn = await kernel.dispatch("desk", "begin")
        followed: list[Any] = []
        async with working(worker):
            with anyio.fail_after(60):
                async for item in reader.turns.follow(turn):
                    followed.append(item.payload)
                    if item.payload == 0:
                        is_seen.set()
        assert followed == ["begin", *range(150), "done"]


@pytest.mark.parametrize("verb", ["feed", "context"])
async def test_a_follower_misses_nothing_over_an_outage(kernel: LocalKernel, verb: str) -> None:
    """Neither a record that is made meanwhile nor one whose page did not arrive."""
    async with await kernel.agent("desk") as desk, await kernel.agent("reader") as reader:
        worker = Worker(desk, options=WorkerOptions(wait_seconds=5))
        is_seen = anyio.Event()

        @worker.turn()
        async def talk(turn: Turn) -> str:
            await turn.record(0)
            await is_seen.wait()
            kernel.faults.drop_response(verb, times=2)
            kernel.faults.answer(verb, status=503)
            await turn.record(1)
            return "done"

        turn = await kernel.dispatch("desk", "begin")
        followed: list[Any] = []
        async with working(worker):
            with anyio.fail_after(60):
                async for item in reader.turns.follow(turn):
                    followed.append(item.payload)
                    if item.payload == 0:
                        is_seen.set()
        assert followed == ["begin", 0, 1, "done"]


async def test_following_what_does_not_answer_says_so() -> None:
    """Nobody waits for ever for an address that is wrong."""
    async with KernelClient("http://127.0.0.1:9", agent=AgentRef(project_id="p", agent_id="a")) as kernel:
        with pytest.raises(KernelTrouble):
            await anext(kernel.turns.follow(TurnRef(project_id="p", turn_id="T-1")))


async def test_a_reader_that_hangs_up_harms_nothing(kernel: LocalKernel) -> None:
    """Watching and running are separate (a2a-python #296)."""
    async with await kernel.agent("desk") as desk, await kernel.agent("reader") as reader:
        worker = Worker(desk, options=WorkerOptions(wait_seconds=5))
        has_left = anyio.Event()

        @worker.turn()
        async def talk(turn: Turn) -> str:
            await turn.record("first")
            await has_left.wait()
            return "done"

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            async with aclosing(reader.turns.follow(turn)) as records:
                async for item in records:
                    if item.payload == "first":
                        break
            has_left.set()
            assert (await closed(desk, turn)).final_payload == "done"
