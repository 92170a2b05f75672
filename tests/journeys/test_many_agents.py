"""Many agents in one process make few calls, and lose nothing by that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from cgworker import KernelClient, Turn, TurnRef, Worker
from cgworker.testing import LocalKernel
from tests.journeys.conftest import closed, history, working

_AGENTS = [f"desk-{number}" for number in range(8)]


@pytest.fixture
def kernel(patient: LocalKernel) -> LocalKernel:
    """No lease has to end here."""
    return patient


class Desks:
    """Workers of many agents in one event loop; all their handlers end in the same moment."""

    def __init__(self) -> None:
        self.runs = 0
        self.kernel: KernelClient | None = None
        self._all_run = anyio.Event()

    async def handle(self, turn: Turn) -> str:
        self.runs += 1
        if self.runs == len(_AGENTS):
            self._all_run.set()
        await self._all_run.wait()
        return turn.agent.agent_id

    @asynccontextmanager
    async def open(self, kernel: LocalKernel) -> AsyncIterator[dict[str, TurnRef]]:
        """Each agent has one turn and its worker."""
        async with AsyncExitStack() as stack:
            turns = {}
            for name in _AGENTS:
                self.kernel = await stack.enter_async_context(await kernel.agent(name))
                turns[name] = await kernel.dispatch(name, {})
                worker = Worker(self.kernel)
                worker.add(None, self.handle)
                await stack.enter_async_context(working(worker))
            yield turns


async def test_results_that_wait_are_settled_in_one_request(kernel: LocalKernel) -> None:
    """Requests are counted, not timed: eight turns that end together are settled with fewer than eight."""
    desks = Desks()
    async with desks.open(kernel) as turns:
        assert desks.kernel is not None
        for name, turn in turns.items():
            assert (await closed(desks.kernel, turn)).final_payload == name
    assert kernel.faults.seen["finish"] <= 4


async def test_a_lost_answer_to_many_settles_each_turn_once(kernel: LocalKernel) -> None:
    """Each turn has its own result, exactly once, and no handler runs again."""
    desks = Desks()
    for _ in range(2):
        kernel.faults.drop_response("finish")
        kernel.faults.drop_request("finish")
    async with desks.open(kernel) as turns:
        assert desks.kernel is not None
        for name, turn in turns.items():
            assert (await closed(desks.kernel, turn)).final_payload == name
            assert (await history(desks.kernel, turn)).count("turn.finished") == 1
    assert desks.runs == len(_AGENTS)
