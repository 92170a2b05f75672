"""An answer that is lost costs nothing: not the result, not a second run, not a second record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import CommandHandler, Turn, TurnRef, Worker, WorkerOptions, suspend
from cgworker.events import TurnSettled
from cgworker.testing import LocalKernel
from tests.journeys.conftest import Witness, closed, history, in_state, working


@pytest.mark.parametrize("fault", ["drop_request", "drop_response"])
async def test_a_lost_finish_closes_the_turn_once_with_its_result(kernel: LocalKernel, fault: str) -> None:
    """Finishing is its own retried phase; the handler's work is not done again for it (solid_queue #748)."""
    runs = 0
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk)

        @worker.turn()
        async def handle(_: Turn) -> int:
            nonlocal runs
            runs += 1
            return 42

        turn = await kernel.dispatch("desk", {})
        getattr(kernel.faults, fault)("finish")
        report = await worker.once()
        assert report is not None
        assert report.settled
        assert (await closed(desk, turn)).final_payload == 42
        assert runs == 1
        assert (await history(desk, turn)).count("turn.finished") == 1


@pytest.mark.parametrize("fault", ["drop_request", "drop_response"])
async def test_a_lost_append_leaves_one_record(kernel: LocalKernel, fault: str) -> None:
    """Also when the same payload was recorded before: it is told apart."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk)

        @worker.turn()
        async def handle(turn: Turn) -> int:
            await turn.record({"step": 1})
            getattr(kernel.faults, fault)("append")
            await turn.record({"step": 1})
            return len(await turn.records("progress"))

        turn = await kernel.dispatch("desk", {})
        await worker.once()
        assert (await closed(desk, turn)).final_payload == 2
        assert (await history(desk, turn)).count("turn.progress_appended") == 3


async def test_a_lost_claim_is_found_by_asking_again(kernel: LocalKernel) -> None:
    """It does not sit until its lease ends (hatchet #2432)."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=WorkerOptions(wait_seconds=5))

        @worker.turn()
        async def handle(_: Turn) -> int:
            return 1

        kernel.faults.drop_response("claim")
        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await closed(desk, turn)
        assert (await history(desk, turn)).count("turn.claimed") == 1
        assert "turn.claim_reconciled" not in await history(desk, turn)


@pytest.mark.parametrize("fault", ["drop_request", "drop_response"])
async def test_a_lost_answer_with_many_claims_is_found_by_asking_again(
    kernel: LocalKernel, fault: str
) -> None:
    """A busy worker asks for all its free slots at once: all of it comes again, and each turn runs once."""
    runs: list[int] = []
    async with await kernel.agent("desk", capacity=4) as desk:
        worker = Worker(desk, options=WorkerOptions(wait_seconds=5))

        @worker.turn()
        async def handle(_: Turn, input: int) -> None:
            runs.append(input)

        turns = [await kernel.dispatch("desk", number) for number in range(12)]
        kernel.faults.delay("claim", 0)  # the first, which is for one turn
        getattr(kernel.faults, fault)("claim")
        async with working(worker):
            for turn in turns:
                await closed(desk, turn)
        assert sorted(runs) == [*range(12)]
        for turn in turns:
            assert (await history(desk, turn)).count("turn.claimed") == 1


@pytest.mark.parametrize("fault", ["drop_request", "drop_response"])
async def test_a_lost_suspend_suspends_once(kernel: LocalKernel, fault: str) -> None:
    """And the next claim finds the turn where it was put."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk)

        @worker.turn()
        async def handle(_: Turn) -> Any:
            return suspend("wait_for_people", "please look")

        turn = await kernel.dispatch("desk", {})
        getattr(kernel.faults, fault)("suspend")
        report = await worker.once()
        assert report is not None
        assert report.settled
        await in_state(desk, turn, "suspended")
        assert (await history(desk, turn)).count("turn.suspended") == 1


@pytest.mark.parametrize("fault", ["drop_request", "drop_response"])
async def test_a_lost_dispatch_gives_one_child(kernel: LocalKernel, fault: str) -> None:
    """Its key is derived from the parent's, so that a repeat is the same dispatch."""
    async with await kernel.agent("desk") as desk, await kernel.agent("helper"):
        worker = Worker(desk)

        @worker.turn()
        async def handle(turn: Turn) -> str:
            getattr(kernel.faults, fault)("dispatch")
            child = await turn.dispatch("helper", {"n": 1}, key="part")
            return child.turn_id

        turn = await kernel.dispatch("desk", {})
        await worker.once()
        payload = (await closed(desk, turn)).final_payload
        lineage = await desk.projections.lineage(kernel.project_id, turn.turn_id)
        assert [child.turn_id for child in lineage.direct_children] == [payload]


async def test_a_result_outlives_its_lease_in_the_outbox(kernel: LocalKernel) -> None:
    """The kernel is away until the lease has ended; the next claim delivers what was computed."""
    runs = 0
    witness = Witness()
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, listener=witness)

        @worker.turn()
        async def handle(_: Turn) -> dict[str, int]:
            nonlocal runs
            runs += 1
            kernel.faults.answer("finish", 503, times=1000)
            kernel.faults.answer("renew", 503, times=1000)
            kernel.faults.answer("get", 503, times=1000)
            return {"run": runs}

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await _until_finish_was_tried(kernel)
            await _until_reconciled(kernel, turn)
            settled = await witness.saw(TurnSettled)
        assert settled.redelivered
        assert runs == 1
        assert (await closed(desk, turn)).final_payload == {"run": 1}


async def _until_finish_was_tried(kernel: LocalKernel) -> None:
    with anyio.fail_after(60):
        while kernel.faults.seen["finish"] < 2:  # noqa: ASYNC110  # counted in another thread
            await anyio.sleep(0.02)


async def _until_reconciled(kernel: LocalKernel, turn: TurnRef) -> None:
    """Let the lease end while the kernel answers nobody, and then come back."""
    await kernel.faults.steal_lease(turn)
    await anyio.sleep(0.1)
    kernel.faults.clear()


async def test_a_command_is_not_run_again_for_a_lost_finish(kernel: LocalKernel, tmp_path: Path) -> None:
    """The same for a child process: its final file is in the outbox before the finish call is repeated."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(
            desk, CommandHandler(["sh", "-c", f"echo x >> {tmp_path}/runs; echo 1 > $CG_FINAL_FILE"])
        )
        turn = await kernel.dispatch("desk", {})
        kernel.faults.answer("finish", 503, times=3)
        kernel.faults.drop_response("finish")
        await worker.once()
        assert (await closed(desk, turn)).final_payload == 1
        assert (tmp_path / "runs").read_text() == "x\n"
