"""A kernel that has only what the reference's has: no waiting, no context with the claim, no attempts."""

from __future__ import annotations

import anyio
import pytest

from cgworker import KernelLacks, Turn, Worker, WorkerOptions
from cgworker.testing import LocalKernel
from tests.journeys.conftest import closed, working
from tests.kernels import NewProject


@pytest.fixture
def plain(kernel: LocalKernel) -> LocalKernel:
    """The kernel, without what differences 4, 7 and 8 add."""
    kernel.faults.ignore_preferences()
    return kernel


async def test_turns_are_worked_by_polling(plain: LocalKernel) -> None:
    """The lease's length is learnt from a renewal, and the context is asked for (difference 26)."""
    async with await plain.agent("desk") as desk:
        worker = Worker(desk, options=WorkerOptions(context_page_size=2))

        @worker.turn()
        async def handle(turn: Turn) -> int:
            for n in range(5):
                await turn.record(n)
            return len(await turn.records())

        async with working(worker):
            turn = await plain.dispatch("desk", {})
            assert (await closed(desk, turn)).final_payload == 6
        assert plain.faults.seen["renew"] >= 1


async def test_a_handler_has_all_records_of_a_turn_that_is_many_pages_by_its_size(
    new_project: NewProject,
) -> None:
    """The kernel cuts its pages, and the claim comes without any: the worker follows the links."""
    async with new_project() as kernel, await kernel.agent("desk") as desk:  # a lease that lasts for all that
        assert desk.agent is not None
        turn = await kernel.dispatch("desk", {})
        claim = (await desk.claims.claim(desk.agent)).claimed
        assert claim is not None
        for _ in range(4):
            await desk.turns.append(claim.claim, "x" * 6_000_000)
        await desk.turns.suspend(claim.claim, "later")
        await desk.turns.resume(turn, requested_by=desk.agent)
        worker = Worker(desk)

        @worker.turn()
        async def handle(turn: Turn) -> list[int]:
            return [item.record.turn_seq for item in await turn.records()]

        await worker.once()
        assert (await closed(desk, turn)).final_payload == [1, 2, 3, 4, 5]


async def test_attempts_are_counted_from_the_feed(plain: LocalKernel) -> None:
    """Claims that expired since the turn was last suspended."""
    async with await plain.agent("desk") as desk:
        turn = await plain.dispatch("desk", {})
        assert desk.agent is not None
        for _ in range(2):
            assert (await desk.claims.claim(desk.agent)).claimed is not None
            await plain.faults.steal_lease(turn)
        worker = Worker(desk)

        @worker.turn()
        async def handle(turn: Turn) -> int:
            return turn.attempt

        await worker.once()
        assert (await closed(desk, turn)).final_payload == 3


@pytest.mark.parametrize("verb", ["append", "finish"])
async def test_a_lost_answer_is_found_without_an_idempotency_key(plain: LocalKernel, verb: str) -> None:
    """The records and the turn itself tell whether the request was carried out."""
    async with await plain.agent("desk") as desk:
        worker = Worker(desk)

        @worker.turn()
        async def handle(turn: Turn) -> int:
            await turn.record({"step": 1})
            plain.faults.drop_response(verb)
            await turn.record({"step": 1})
            return len(await turn.records("progress"))

        turn = await plain.dispatch("desk", {})
        await worker.once()
        assert (await closed(desk, turn)).final_payload == 2


async def test_a_stop_is_found_at_a_renewal(plain: LocalKernel) -> None:
    """The turn says it, where the renewal does not."""
    async with await plain.agent("desk") as desk:
        assert desk.agent is not None
        worker = Worker(desk, options=WorkerOptions(renew_seconds=0.2))
        started = anyio.Event()

        @worker.turn()
        async def handle(_: Turn) -> None:
            started.set()
            await anyio.sleep_forever()

        async with working(worker):
            turn = await plain.dispatch("desk", {})
            await started.wait()
            await desk.turns.stop(turn, requested_by=desk.agent)
            assert (await closed(desk, turn)).outcome == "stopped"


async def test_what_a_plain_kernel_lacks_is_said(plain: LocalKernel) -> None:
    """Telling, doing again, and waiting for messages: none is dropped in silence."""
    async with await plain.agent("desk") as desk, await plain.agent("requester") as requester:
        worker = Worker(desk, options=WorkerOptions(poll_seconds=0.1))

        @worker.turn()
        async def listen(turn: Turn) -> None:
            assert [message async for message in turn.messages(wait=False)] == []
            async for _ in turn.messages():
                pass

        turn = await plain.dispatch("desk", {})
        with pytest.raises(KernelLacks, match="telling turns something"):
            await requester.turns.tell(turn, "hello")
        async with working(worker):
            assert (await closed(desk, turn)).final_payload["type"] == "KernelLacks"
        with pytest.raises(KernelLacks, match="doing closed turns again"):
            await requester.turns.redo(turn)
