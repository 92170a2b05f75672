"""Shutdown: claim no more, keep renewing, let held turns end, hand the rest back; a failure of nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import Turn, Worker, WorkerOptions
from cgworker.events import LeaseEnded, LeaseRenewed, WorkerStopped
from cgworker.testing import LocalKernel
from tests.journeys.conftest import Witness, closed, history, in_state, working


async def test_held_turns_end_within_the_grace_and_no_new_one_is_claimed(kernel: LocalKernel) -> None:
    """A deploy does not cut what is nearly done (saq #269, oban #856)."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=WorkerOptions(wait_seconds=5))
        started, finish = anyio.Event(), anyio.Event()

        @worker.turn()
        async def handle(_: Turn, input: int) -> int:
            started.set()
            await finish.wait()
            return input

        first, second = await kernel.dispatch("desk", 1), await kernel.dispatch("desk", 2)
        async with working(worker):
            await started.wait()
            worker.drain()
            finish.set()
        assert (await closed(desk, first)).final_payload == 1
        assert (await desk.turns.get(second)).state == "queued"


async def test_a_claim_made_as_the_worker_drains_is_given_back(kernel: LocalKernel) -> None:
    """Its answer was under way when nobody waited for it any more: it does not sit until its lease ends."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=WorkerOptions(wait_seconds=5))

        @worker.turn()
        async def handle(_: Turn) -> None:
            raise AssertionError("nothing is begun after the drain")

        kernel.faults.delay_response("claim", 1.5)
        async with working(worker):
            turn = await kernel.dispatch("desk", {})
            await in_state(desk, turn, "running")
        assert (await desk.turns.get(turn)).state == "queued"
        events = await history(desk, turn)
        assert "turn.claim_reconciled" not in events
        assert events[-2:] == ["turn.suspended", "turn.resumed"]


async def test_what_a_busy_worker_claims_as_it_drains_is_worked(kernel: LocalKernel) -> None:
    """It asked for what there is now, so that the answer is near: its turns are held like any others."""
    async with await kernel.agent("desk", capacity=3) as desk:
        worker = Worker(desk, options=WorkerOptions(wait_seconds=5))

        async def until_others_are_claimed() -> None:
            with anyio.fail_after(60):
                while (await desk.turns.get(turns[1], state="queued", wait_seconds=5)).state == "queued":
                    pass

        @worker.turn()
        async def handle(_: Turn, input: int) -> int:
            if input == 0:  # it ends later, or what settles it may claim one of the others, and give it back
                kernel.faults.delay_response("claim", 0.5)
                await until_others_are_claimed()
            return input

        turns = [await kernel.dispatch("desk", number) for number in range(3)]
        async with working(worker):
            await until_others_are_claimed()
        for number, turn in enumerate(turns):
            assert (await closed(desk, turn)).final_payload == number
            assert (await history(desk, turn)).count("turn.claimed") == 1


async def test_leases_are_renewed_through_a_drain(kernel: LocalKernel) -> None:
    """Five projects stopped heartbeats at the drain, and others took the jobs (procrastinate #1585)."""
    witness = Witness()
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, listener=witness, options=WorkerOptions(wait_seconds=5))
        started = anyio.Event()

        @worker.turn()
        async def handle(_: Turn) -> str:
            started.set()
            await anyio.sleep(3 * 2.0)  # three leases
            return "done"

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await started.wait()
            worker.drain()
        assert (await closed(desk, turn)).final_payload == "done"
        assert len(witness.of(LeaseRenewed)) >= 6
        assert not witness.of(LeaseEnded)


async def test_what_does_not_end_in_time_is_handed_back_and_taken_by_another(kernel: LocalKernel) -> None:
    """Suspended with `worker_shutdown` and resumed at once: it spends no attempt (arq #192)."""
    witness = Witness()
    attempts: list[int] = []
    async with await kernel.agent("desk") as desk:
        options = WorkerOptions(grace_seconds=0.2, interrupt_seconds=1, wait_seconds=5)
        dying, next_worker = Worker(desk, options=options, listener=witness), Worker(desk)
        started = anyio.Event()

        @dying.turn()
        async def hang(_: Turn) -> None:
            started.set()
            await anyio.sleep_forever()

        @next_worker.turn()
        async def answer(turn: Turn) -> str:
            attempts.append(turn.attempt)
            return "from the next"

        turn = await kernel.dispatch("desk", {})
        async with working(dying):
            await started.wait()
        assert witness.of(WorkerStopped)[0].handed_back == (turn.turn_id,)
        await next_worker.once()
        assert (await closed(desk, turn)).final_payload == "from the next"
        assert attempts == [1]
        events = await history(desk, turn)
        assert events[3:6] == ["turn.suspended", "turn.resumed", "turn.claimed"]


async def test_a_hand_back_cut_in_half_is_mended_by_the_next_worker(kernel: LocalKernel) -> None:
    """Suspended, and killed before the resume: the ledger says whose business it is."""
    async with await kernel.agent("desk") as desk:
        claimed = (await desk.claims.claim(desk.agent)).claimed  # type: ignore[arg-type]
        assert claimed is None
        turn = await kernel.dispatch("desk", {})
        claim = (await desk.claims.claim(desk.agent)).claimed  # type: ignore[arg-type]
        assert claim is not None
        await desk.turns.suspend(claim, "worker_shutdown")
        worker = Worker(desk, options=WorkerOptions(wait_seconds=5))

        @worker.turn()
        async def handle(_: Turn) -> str:
            return "mended"

        async with working(worker):
            assert (await closed(desk, turn)).final_payload == "mended"


async def test_turns_suspended_by_others_are_left_alone(kernel: LocalKernel) -> None:
    """A worker resumes what workers put aside, and nothing else (difference 22)."""
    async with await kernel.agent("desk", capacity=2) as desk:
        waiting = await kernel.dispatch("desk", "waiting")
        claim = (await desk.claims.claim(desk.agent)).claimed  # type: ignore[arg-type]
        assert claim is not None
        await desk.turns.suspend(claim, "needs_a_person")
        worker = Worker(desk, options=WorkerOptions(wait_seconds=5))

        @worker.turn()
        async def handle(_: Turn, input: str) -> str:
            return input

        async with working(worker):
            other = await kernel.dispatch("desk", "other")
            await closed(desk, other)
        assert (await desk.turns.get(waiting)).state == "suspended"


async def test_a_retry_is_claimed_again_after_its_time(kernel: LocalKernel) -> None:
    """An outcome like any other; any worker of the agent takes it up."""
    from cgworker import retry

    runs = 0
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=WorkerOptions(wait_seconds=5))

        @worker.turn()
        async def handle(_: Turn) -> Any:
            nonlocal runs
            runs += 1
            return retry(0.3) if runs == 1 else runs

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await in_state(desk, turn, "suspended")
            assert (await closed(desk, turn)).final_payload == 2


async def test_cancelling_run_hands_back_as_a_drain_does(kernel: LocalKernel) -> None:
    """The cancel exception skips `except Exception`; it is handled in one place (prefect #16746)."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=WorkerOptions(interrupt_seconds=1, wait_seconds=5))
        started = anyio.Event()

        @worker.turn()
        async def handle(_: Turn) -> None:
            started.set()
            await anyio.sleep_forever()

        turn = await kernel.dispatch("desk", {})
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(worker.run)
                await started.wait()
                scope.cancel()
        assert (await desk.turns.get(turn)).state == "queued"


PROGRAM = """
import sys
from cgworker import AgentRef, KernelClient, Turn, Worker, WorkerOptions, run
import anyio
url, project, token = sys.argv[1:4]
kernel = KernelClient(url, agent=AgentRef(project_id=project, agent_id="desk"), token=token)
worker = Worker(kernel, options=WorkerOptions(grace_seconds=float(sys.argv[4]), interrupt_seconds=1))
@worker.turn()
async def handle(turn: Turn) -> str:
    print("started", flush=True)
    await anyio.sleep(1000)
    return "never"
run(worker)
print("clean end", flush=True)
"""


@pytest.mark.parametrize(("grace", "signals"), [("0.1", 1), ("60", 2)])
async def test_a_signal_drains_and_a_second_one_does_not_wait(
    kernel: LocalKernel, grace: str, signals: int, tmp_path: Path
) -> None:
    """SIGTERM is handled without the program doing anything for it (temporal #367); exit 0."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        env = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
        command = [sys.executable, "-c", PROGRAM, kernel.base_url, kernel.project_id, *desk.secrets, grace]
        process = await anyio.open_process(command, env=env, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        with anyio.fail_after(60):
            assert b"started" in await process.stdout.receive()
            for _ in range(signals):
                process.send_signal(signal.SIGTERM)
                await anyio.sleep(0.3)
            assert b"clean end" in await process.stdout.receive()
            assert await process.wait() == 0
        assert (await desk.turns.get(turn)).state == "queued"
        await process.aclose()
