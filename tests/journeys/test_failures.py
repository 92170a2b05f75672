"""One bad turn, one dead kernel, one lost lease: none of them ends the loop, and none is silent."""

from __future__ import annotations

import asyncio

import anyio
import anyio.lowlevel
import pytest

from cgworker import HandlerFailed, Turn, TurnReport, Worker, WorkerOptions, handles
from cgworker.events import ClaimingFailed, ClaimingRecovered, LeaseEnded, TurnGivenUp
from cgworker.testing import LocalKernel
from tests.journeys.conftest import Witness, closed, history, in_state, working


async def test_a_raising_handler_fails_its_turn_and_the_next_one_is_worked(kernel: LocalKernel) -> None:
    """What it raised is public, redacted; the loop goes on (difference 23)."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=WorkerOptions(wait_seconds=5))

        @worker.turn()
        async def handle(_: Turn, input: str) -> str:
            if input == "bad":
                raise ValueError("no route to postgresql://u:hunter2@db")
            return input

        bad, good = await kernel.dispatch("desk", "bad"), await kernel.dispatch("desk", "good")
        async with working(worker):
            failed = await closed(desk, bad)
            assert (await closed(desk, good)).final_payload == "good"
        assert (failed.outcome, failed.final_record_role) == ("failed", "error_report")
        assert (failed.final_payload["error"], failed.final_payload["type"]) == (
            "handler_error",
            "ValueError",
        )
        assert "hunter2" not in failed.final_payload["message"]


async def test_on_error_suspend_puts_the_turn_aside(kernel: LocalKernel) -> None:
    """For people to look at, as the reference's worker does."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=WorkerOptions(on_error="suspend"))

        @worker.turn()
        async def handle(_: Turn) -> None:
            raise KeyError("x")

        turn = await kernel.dispatch("desk", {})
        await worker.once()
        await in_state(desk, turn, "suspended")


async def test_a_handler_can_fail_in_its_own_words(kernel: LocalKernel) -> None:
    """Not an accident, and not retried."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk)

        @worker.turn()
        async def handle(_: Turn) -> None:
            raise HandlerFailed({"error": "no_such_customer"})

        turn = await kernel.dispatch("desk", {})
        await worker.once()
        assert (await closed(desk, turn)).final_payload == {"error": "no_such_customer"}


async def test_sys_exit_in_a_handler_does_not_end_the_worker(kernel: LocalKernel) -> None:
    """A library that thinks it owns the process fails its turn."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk)

        @worker.turn()
        async def handle(_: Turn) -> None:
            raise SystemExit(3)

        turn = await kernel.dispatch("desk", {})
        await worker.once()
        assert (await closed(desk, turn)).outcome == "failed"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_handler_that_awaits_what_was_cancelled_fails_its_turn(kernel: LocalKernel) -> None:
    """asyncio lets the end of one task end another; nobody asked for this turn to be ended."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk)

        @worker.turn()
        async def handle(_: Turn) -> None:
            task = asyncio.create_task(asyncio.sleep(60))
            task.cancel()
            await task

        turn = await kernel.dispatch("desk", {})
        await worker.once()
        failed = await closed(desk, turn)
        assert (failed.outcome, failed.final_payload["type"]) == ("failed", "CancelledError")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_who_cancels_the_worker_is_not_taken_for_the_handler(kernel: LocalKernel) -> None:
    """Its turn is handed back; nothing is closed as failed."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk)
        started = asyncio.Event()

        @worker.turn()
        async def handle(_: Turn) -> None:
            started.set()
            await asyncio.sleep(60)

        turn = await kernel.dispatch("desk", {})
        working_one = asyncio.create_task(worker.once())
        await started.wait()
        working_one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working_one
        assert (await desk.turns.get(turn)).state == "queued"


async def test_a_kind_without_a_handler_is_put_aside_until_there_is_one(kernel: LocalKernel) -> None:
    """`no_handler`; a worker that can do it takes it up again by itself."""
    async with await kernel.agent("desk", kinds=["turn.a.v1", "turn.b.v1"]) as desk:
        only_a, both = Worker(desk), Worker(desk, options=WorkerOptions(wait_seconds=5))

        async def handle(_: Turn) -> str:
            return "done"

        only_a.turn("turn.a.v1")(handle)
        both.turn("turn.a.v1")(handle)
        both.turn("turn.b.v1")(handle)
        turn = await kernel.dispatch("desk", {}, kind="turn.b.v1")
        await only_a.once()
        await in_state(desk, turn, "suspended")
        async with working(both):
            assert (await closed(desk, turn)).final_payload == "done"


async def test_a_poison_turn_is_closed_after_so_many_claims(kernel: LocalKernel) -> None:
    """Crashes count, though no exception was ever seen (sidekiq #4633, dramatiq #213)."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        for _ in range(2):  # two workers that died holding it
            assert (await desk.claims.claim(desk.agent)).claimed is not None  # type: ignore[arg-type]
            await kernel.faults.steal_lease(turn)
        worker = Worker(desk, options=WorkerOptions(max_attempts=2))

        @worker.turn()
        async def handle(_: Turn) -> None:
            raise AssertionError("it must not run")

        await worker.once()
        found = await closed(desk, turn)
        assert (found.outcome, found.final_payload) == (
            "failed",
            {"error": "attempts_exhausted", "attempts": 2},
        )


async def test_a_lost_lease_ends_the_handler_and_writes_nothing(kernel: LocalKernel) -> None:
    """Another may hold the turn already; the loop goes on with it or with others (langfuse #15509)."""
    witness = Witness()
    runs = 0
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, listener=witness, options=WorkerOptions(renew_seconds=0.2, wait_seconds=5))

        @worker.turn()
        async def handle(turn: Turn) -> int:
            nonlocal runs
            runs += 1
            if runs == 1:
                await kernel.faults.steal_lease(turn.ref)
                await anyio.sleep_forever()
            return turn.attempt

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await witness.saw(LeaseEnded)
            await witness.saw(TurnGivenUp)
            assert (await closed(desk, turn)).final_payload == 2
        assert "turn.claim_reconciled" in await history(desk, turn)


async def test_an_outage_is_told_once_and_survived(kernel: LocalKernel) -> None:
    """Back off, go on, and say so once per change and not once per attempt."""
    witness = Witness()
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, listener=witness, options=WorkerOptions(wait_seconds=1))

        @worker.turn()
        async def handle(_: Turn) -> str:
            return "alive"

        kernel.faults.answer("claim", 503, times=4)
        async with working(worker):
            turn = await kernel.dispatch("desk", {})
            assert (await closed(desk, turn)).final_payload == "alive"
        assert len(witness.of(ClaimingFailed)) == 1
        assert len(witness.of(ClaimingRecovered)) == 1


async def test_a_slow_renewal_is_noise(kernel: LocalKernel) -> None:
    """One failed heartbeat must not cancel all jobs (sourcegraph #44685)."""
    witness = Witness()
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, listener=witness)

        @worker.turn()
        async def handle(_: Turn) -> str:
            await anyio.sleep(3)
            return "done"

        turn = await kernel.dispatch("desk", {})
        kernel.faults.delay("renew", 1.0)
        kernel.faults.drop_response("renew")
        kernel.faults.answer("renew", 500)
        await worker.once()
        assert (await closed(desk, turn)).final_payload == "done"
        assert not witness.of(LeaseEnded)


async def test_a_payload_too_large_is_a_typed_failure_and_kept(kernel: LocalKernel) -> None:
    """Measured before it is sent; the worker does not just fall silent (temporal api #816)."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=WorkerOptions(max_payload_bytes=1000))

        @worker.turn()
        async def handle(_: Turn) -> str:
            return "x" * 2000

        turn = await kernel.dispatch("desk", {})
        report = await worker.once()
        assert (await closed(desk, turn)).final_payload["error"] == "result_too_large"
        assert report is not None
        assert report.kept_at is not None
        assert "x" * 2000 in await anyio.Path(report.kept_at).read_text()


async def test_two_workers_of_one_agent_never_hold_one_turn(kernel: LocalKernel) -> None:
    """A hundred turns, two workers, each turn run once."""
    ran: list[str] = []
    async with await kernel.agent("desk", capacity=4) as desk:
        workers = [Worker(desk, options=WorkerOptions(wait_seconds=2)) for _ in range(2)]

        async def handle(turn: Turn) -> None:
            ran.append(turn.ref.turn_id)
            await anyio.lowlevel.checkpoint()

        for worker in workers:
            worker.turn()(handle)
        turns = [await kernel.dispatch("desk", n) for n in range(40)]
        async with working(workers[0]), working(workers[1]):
            for turn in turns:
                await closed(desk, turn)
        assert sorted(ran) == sorted(turn.turn_id for turn in turns)


async def test_a_subclass_handles_by_kind_and_hears_what_happens(kernel: LocalKernel) -> None:
    """The third form of a worker: methods and hooks."""
    heard: list[str] = []

    class Desk(Worker):
        @handles("turn.a.v1")
        async def on_a(self, _: Turn, input: int) -> int:
            return input + 1

        async def handle(self, turn: Turn) -> str:
            return f"other: {turn.kind}"

        async def on_claimed(self, turn: Turn) -> None:
            heard.append(f"claimed {turn.kind}")

        async def on_settled(self, report: TurnReport) -> None:
            heard.append(f"settled {report.settled}")

    async with await kernel.agent("desk", kinds=["turn.a.v1", "turn.b.v1"]) as desk:
        worker = Desk(desk)
        a = await kernel.dispatch("desk", 1, kind="turn.a.v1")
        b = await kernel.dispatch("desk", 1, kind="turn.b.v1")
        await worker.once()
        await worker.once()
        assert (await closed(desk, a)).final_payload == 2
        assert (await closed(desk, b)).final_payload == "other: turn.b.v1"
        assert heard == ["claimed turn.a.v1", "settled True", "claimed turn.b.v1", "settled True"]


async def test_a_hook_or_listener_that_raises_harms_no_turn(kernel: LocalKernel) -> None:
    """They are told what happens; they do not decide it."""

    class Clumsy(Worker):
        asked = 0

        async def handle(self, _: Turn) -> str:
            return "done"

        def select(self) -> bool:
            self.asked += 1
            if self.asked == 1:
                raise RuntimeError("select")
            return True

        async def on_claimed(self, turn: Turn) -> None:
            raise RuntimeError(turn)

        async def on_settled(self, report: TurnReport) -> None:
            raise RuntimeError(report)

    def listener(_: object) -> None:
        raise RuntimeError("listener")

    async with await kernel.agent("desk") as desk:
        worker = Clumsy(desk, listener=listener, options=WorkerOptions(wait_seconds=5))
        turns = [await kernel.dispatch("desk", n) for n in range(2)]
        async with working(worker):
            for turn in turns:
                assert (await closed(desk, turn)).final_payload == "done"


@pytest.mark.parametrize("concurrency", [1, 5])
async def test_as_many_turns_run_at_once_as_the_agent_has_capacity(
    kernel: LocalKernel, concurrency: int
) -> None:
    """And never one more."""
    running, most = 0, 0
    async with await kernel.agent(f"desk{concurrency}", capacity=concurrency) as desk:
        worker = Worker(desk, options=WorkerOptions(wait_seconds=2))
        full = anyio.Event()

        @worker.turn()
        async def handle(_: Turn) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if running == concurrency:
                full.set()
            await full.wait()
            await anyio.sleep(0.02)
            running -= 1

        turns = [await kernel.dispatch(f"desk{concurrency}", n) for n in range(15)]
        async with working(worker):
            for turn in turns:
                await closed(desk, turn)
        assert most == concurrency
