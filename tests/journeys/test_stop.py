"""Stopping: the runtime hears it and tells the handler, which gets a grace to end in its own way."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread

from cgworker import CommandHandler, Turn, Worker, WorkerOptions
from cgworker.events import HandlerStuck
from cgworker.testing import LocalKernel
from tests.journeys.conftest import Witness, closed, working

OPTIONS = WorkerOptions(renew_seconds=0.2, interrupt_seconds=2, wait_seconds=5)


async def test_a_stop_reaches_an_async_handler_wherever_it_awaits(kernel: LocalKernel) -> None:
    """The author polls nothing and sprinkles no sleeps (temporal sdk-python #700)."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)
        started = anyio.Event()

        @worker.turn()
        async def handle(_: Turn) -> None:
            started.set()
            await anyio.sleep_forever()

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await started.wait()
            await desk.turns.stop(turn, requested_by=desk.agent)  # type: ignore[arg-type]
            found = await closed(desk, turn)
        assert (found.outcome, found.final_payload) == ("stopped", {"status": "stopped"})


async def test_a_stopped_handler_can_save_what_it_has(kernel: LocalKernel) -> None:
    """Told first, ended after: what it returns in its grace is the final record (prefect #12688)."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)
        started = anyio.Event()

        @worker.turn()
        async def handle(turn: Turn) -> Any:
            started.set()
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                with turn.shield(1):
                    await turn.record({"saved": True})
            return {"partial": turn.stop_requested}

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await started.wait()
            await desk.turns.stop(turn, requested_by=desk.agent)  # type: ignore[arg-type]
            found = await closed(desk, turn)
        assert (found.outcome, found.final_payload) == ("stopped", {"partial": True})
        assert [item.payload async for item in desk.turns.records(turn)][1] == {"saved": True}


async def test_a_stop_reaches_a_command(kernel: LocalKernel, tmp_path: Path) -> None:
    """By the stop file, then by signals."""
    script = (
        f"touch {tmp_path}/started; while [ ! -e $CG_STOP_FILE ]; do sleep 0.05; done;"
        " cp $CG_STOP_FILE $CG_FINAL_FILE"
    )
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, CommandHandler(["sh", "-c", script]), options=OPTIONS)
        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            with anyio.fail_after(60):
                while not (tmp_path / "started").exists():  # noqa: ASYNC110  # the child's doing
                    await anyio.sleep(0.02)
            await desk.turns.stop(turn, requested_by=desk.agent)  # type: ignore[arg-type]
            found = await closed(desk, turn)
        assert (found.outcome, found.final_payload["reason"]) == ("stopped", "stop")


async def test_a_stop_is_heard_during_a_drain(kernel: LocalKernel) -> None:
    """The watcher of stops is the renewal, and renewal is the last thing to end (procrastinate #1598)."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)
        started = anyio.Event()
        heard: list[bool] = []

        @worker.turn()
        async def handle(turn: Turn) -> None:
            started.set()
            try:
                await anyio.sleep_forever()
            finally:
                heard.append(turn.stop_requested)

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await started.wait()
            worker.drain()
            await desk.turns.stop(turn, requested_by=desk.agent)  # type: ignore[arg-type]
        assert (await closed(desk, turn)).outcome == "stopped"
        assert heard == [True]  # and not the end of the grace


async def test_a_turn_that_was_stopped_before_it_was_claimed_is_closed_without_a_run(
    kernel: LocalKernel,
) -> None:
    """A stop of a queued turn leaves it claimable; the worker then has nothing to do but say so."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk)

        @worker.turn()
        async def handle(_: Turn) -> None:
            raise AssertionError("it must not run")

        turn = await kernel.dispatch("desk", {})
        await desk.turns.stop(turn, requested_by=desk.agent)  # type: ignore[arg-type]
        await worker.once()
        assert (await closed(desk, turn)).outcome == "stopped"


async def test_a_thread_that_does_not_end_gives_its_slot_back(kernel: LocalKernel) -> None:
    """It is counted and named, and other turns go on (river #1258, temporal #1648)."""
    witness, release = Witness(), threading.Event()
    async with await kernel.agent("desk") as desk:
        options = WorkerOptions(renew_seconds=0.2, interrupt_seconds=0.2, wait_seconds=5)
        worker = Worker(desk, options=options, listener=witness)
        started = anyio.Event()

        @worker.turn()
        def handle(_: Turn, input: str) -> str:
            if input == "hang":
                anyio.from_thread.run_sync(started.set)
                release.wait(60)
            return input

        stuck, next_turn = await kernel.dispatch("desk", "hang"), await kernel.dispatch("desk", "go")
        async with working(worker):
            await started.wait()
            await desk.turns.stop(stuck, requested_by=desk.agent)  # type: ignore[arg-type]
            assert (await closed(desk, stuck)).outcome == "stopped"
            assert (await closed(desk, next_turn)).final_payload == "go"
        release.set()
        assert witness.of(HandlerStuck)[0].stuck_count == 1


async def test_a_time_limit_ends_a_handler_with_a_typed_failure(kernel: LocalKernel) -> None:
    """There is none unless it is asked for; this one is."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=WorkerOptions(time_limit_seconds=0.3))

        @worker.turn()
        async def handle(_: Turn) -> None:
            await anyio.sleep_forever()

        turn = await kernel.dispatch("desk", {})
        await worker.once()
        found = await closed(desk, turn)
        assert (found.outcome, found.final_payload["error"]) == ("failed", "deadline_exceeded")
