"""A busy worker claims its next turn in the request that settles the one before: one answer for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from cgworker import Turn, TurnReport, Worker, WorkerOptions
from cgworker.errors import HandlerFailed, KernelOverloaded
from cgworker.kernel.batching import BatchedOperations
from cgworker.kernel.store.claims.claim import Claimed
from cgworker.testing import LocalKernel
from cgworker.testing.faults import Faults
from cgworker.wire.refs import TurnRef
from tests.journeys.conftest import closed, history, in_state, working

FAST = WorkerOptions(wait_seconds=5)


@pytest.mark.parametrize("fault", ["drop_request", "drop_response"])
@pytest.mark.parametrize("capacity", [1, 4])
async def test_a_lost_answer_to_both_loses_neither(kernel: LocalKernel, fault: str, capacity: int) -> None:
    """The call is repeated, and with it the claim, by its key: each turn is claimed and worked once."""
    runs: Counter[TurnRef] = Counter()
    async with await kernel.agent("desk", capacity=capacity) as desk:
        worker = Worker(desk, options=FAST)

        @worker.turn()
        async def handle(turn: Turn) -> str:
            runs[turn.ref] += 1
            if runs.total() in (3, 6):
                getattr(kernel.faults, fault)("finish")
            return turn.ref.turn_id

        turns = [await kernel.dispatch("desk", {}) for _ in range(12)]
        async with working(worker):
            for turn in turns:
                assert (await closed(desk, turn)).final_payload == turn.turn_id
        assert runs == dict.fromkeys(turns, 1)
        for turn in turns:
            events = await history(desk, turn)
            assert (events.count("turn.claimed"), events.count("turn.finished")) == (1, 1)


class Unheard(Worker):
    """From its turn "last" on no answer to a settle call arrives, until that turn has ended."""

    async def handle(self, turn: Turn) -> str:
        if turn.input == "last":
            self.faults.drop_response("finish", times=1000)
        return "done"

    async def on_settled(self, _: TurnReport) -> None:
        self.faults.clear()

    faults: Faults


async def test_a_next_turn_that_nobody_was_told_of_is_asked_for_again(kernel: LocalKernel) -> None:
    """Reading the turn back shows that it is closed, but not what was claimed with it: its key does."""
    async with await kernel.agent("desk") as desk:
        turns = [await kernel.dispatch("desk", said) for said in ("first", "last", "next")]
        worker = Unheard(desk, options=FAST)
        worker.faults = kernel.faults
        async with working(worker):
            for turn in turns:
                await closed(desk, turn)
        events = await history(desk, turns[-1])
        assert (events.count("turn.claimed"), events.count("turn.claim_reconciled")) == (1, 0)


@pytest.mark.parametrize("verb", ["finish_and_claim_many", "claim_many"])
async def test_a_next_turn_that_the_kernel_could_not_tell_of_is_asked_for_again(
    kernel: LocalKernel, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """It is claimed, and the database goes away before the kernel hears of it; the one before is settled.

    Both are done in one statement, or one after the other.
    """
    published, lost = getattr(BatchedOperations, verb), 0

    async def do_and_lose(operations: BatchedOperations, project_id: str, items: Sequence[Any]) -> Any:
        nonlocal lost
        answers = await published(operations, project_id, items)
        is_first = verb == "claim_many" and "finish" not in kernel.faults.seen
        claims = [getattr(answer, "claimed", answer) for answer in answers]
        if any(isinstance(claim, Claimed) for claim in claims) and not is_first and not lost:
            lost = 1
            raise KernelOverloaded("the database is away", status=503)
        return answers

    async def neither(_: BatchedOperations, __: str, items: Sequence[object]) -> list[None]:
        return [None for _ in items]

    if verb == "claim_many":
        monkeypatch.setattr(BatchedOperations, "finish_and_claim_many", neither)
    monkeypatch.setattr(BatchedOperations, verb, do_and_lose)
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=FAST)
        worker.turn()(lambda _: "done")
        turns = [await kernel.dispatch("desk", {}) for _ in range(3)]
        async with working(worker):
            for turn in turns:
                await closed(desk, turn)
        assert lost
        for turn in turns:
            events = await history(desk, turn)
            assert (events.count("turn.claimed"), events.count("turn.claim_reconciled")) == (1, 0)


class OneOnly(Worker):
    """Has enough when its first turn is settled."""

    worked: list[TurnRef]

    async def handle(self, turn: Turn) -> str:
        self.worked.append(turn.ref)
        return "done"

    async def on_settled(self, _: TurnReport) -> None:
        self.drain()


async def test_who_drains_when_a_turn_is_settled_gets_no_other(kernel: LocalKernel) -> None:
    """The one that was claimed meanwhile is given back at once, and its handler does not run."""
    async with await kernel.agent("desk") as desk:
        worker = OneOnly(desk, options=FAST)
        worker.worked = []
        first, second = [await kernel.dispatch("desk", {}) for _ in range(2)]
        await worker.run()
        assert worker.worked == [first]
        assert (await desk.turns.get(first)).state == "closed"
        assert (await in_state(desk, second, "queued")).outcome is None


class ComplainsOnce(OneOnly):
    """Its first turn fails."""

    async def handle(self, turn: Turn) -> str:
        await super().handle(turn)
        raise HandlerFailed({"error": "broken"})


async def test_after_a_failure_nothing_is_claimed_before_it_is_told(kernel: LocalKernel) -> None:
    """It may be why the worker ends, as with --exit-on-failure: then the next turn was never touched."""
    async with await kernel.agent("desk") as desk:
        worker = ComplainsOnce(desk, options=FAST)
        worker.worked = []
        _, second = [await kernel.dispatch("desk", {}) for _ in range(2)]
        await worker.run()
        assert "turn.claimed" not in await history(desk, second)


class Choosy(Worker):
    """Wants a turn, and then none."""

    wants = True

    def select(self) -> bool:
        return self.wants

    async def handle(self, _: Turn) -> str:
        self.wants = False
        return "done"


async def test_a_worker_that_wants_no_more_claims_no_more(kernel: LocalKernel) -> None:
    """`select()` is asked before this claim as before any other."""
    async with await kernel.agent("desk") as desk:
        first, second = [await kernel.dispatch("desk", {}) for _ in range(2)]
        async with working(Choosy(desk, options=FAST)):
            await closed(desk, first)
        assert "turn.claimed" not in await history(desk, second)
