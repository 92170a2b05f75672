"""An agent whose worker runs is seen to be there."""

from __future__ import annotations

from datetime import datetime

import anyio

from cgworker import KernelClient, Turn, Worker, WorkerOptions
from cgworker.testing import LocalKernel
from tests.journeys.conftest import closed, working


async def handle(_: Turn) -> str:
    return "done"


async def seen_after(desk: KernelClient, earlier: datetime | None) -> datetime:
    """When the agent was last seen, once that is later."""
    assert desk.agent is not None
    with anyio.fail_after(60):
        while True:
            found = (await desk.agents.get(desk.agent)).last_seen_at
            if found is not None and found != earlier:
                return found
            await anyio.sleep(0.01)


async def test_presence_is_published_at_the_start_and_now_and_then(kernel: LocalKernel) -> None:
    """As often as was asked for."""
    options = WorkerOptions(presence_seconds=0.05)
    async with await kernel.agent("desk") as desk, working(Worker(desk, handle, options=options)):
        first = await seen_after(desk, None)
        second = await seen_after(desk, first)
        assert await seen_after(desk, second) > second > first


async def test_presence_is_published_once_more_at_the_end(kernel: LocalKernel) -> None:
    """So that it says until when the agent was there."""
    async with await kernel.agent("desk") as desk:
        async with working(Worker(desk, handle, options=WorkerOptions(presence_seconds=3600))):
            first = await seen_after(desk, None)
        assert desk.agent is not None
        assert ((await desk.agents.get(desk.agent)).last_seen_at or first) > first


async def test_a_presence_that_cannot_be_published_delays_no_claim(kernel: LocalKernel) -> None:
    """It is a courtesy; turns are worked while it hangs, and the worker ends in time."""
    kernel.faults.delay("presence", 30, times=100)
    async with await kernel.agent("desk") as desk:
        with anyio.fail_after(25):
            async with working(Worker(desk, handle, options=WorkerOptions(presence_seconds=0.05))):
                turn = await kernel.dispatch("desk", {})
                assert (await closed(desk, turn)).final_payload == "done"
    assert kernel.faults.seen["presence"] > 0


async def test_nobody_is_told_of_an_agent_unless_it_is_asked_for(kernel: LocalKernel) -> None:
    """An idle worker makes few requests."""
    async with await kernel.agent("desk") as desk, working(Worker(desk, handle)):
        await closed(desk, await kernel.dispatch("desk", {}))
    assert kernel.faults.seen["presence"] == 0
