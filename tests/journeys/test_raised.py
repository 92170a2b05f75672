"""Whatever a handler raises is its own turn's failure; a call that was fenced is a lost lease, and none."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio

from cgworker import LeaseLost, Turn, Worker, WorkerOptions, fail
from cgworker.errors import HandlerFailed
from cgworker.events import HandlerStuck
from cgworker.outcome import Suspended
from cgworker.testing import LocalKernel, local_kernel
from tests.journeys.conftest import Witness, closed, history, working


class Panic(BaseException):
    """As a foreign library raises it."""


class Unreadable(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class NoText(Exception):
    """An exception whose text is none."""

    def __str__(self) -> str:
        return 7  # type: ignore[return-value]


def _in_a_circle() -> BaseException:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


RAISED: dict[str, Callable[[], BaseException]] = {
    "Panic": Panic,
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": GeneratorExit,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "BaseExceptionGroup": lambda: BaseExceptionGroup("several", [Panic(), ValueError("one")]),
    "CancelledError": asyncio.CancelledError,
    "Unreadable": Unreadable,
    "NoText": NoText,
    "ValueError": _in_a_circle,
    "MemoryError": lambda: MemoryError("x" * 10_000_000),
}


@pytest.mark.parametrize("where", ["loop", "thread"])
async def test_whatever_a_handler_raises_fails_its_turn_alone(kernel: LocalKernel, where: str) -> None:
    """The other turns that the worker holds go on, and so does the worker."""
    async with await kernel.agent("desk", capacity=3) as desk:
        worker = Worker(desk, options=WorkerOptions(wait_seconds=5))

        async def raise_it(_: Turn, input: str) -> str:
            await anyio.sleep(0.05)
            return _raise_or_return(input)

        def raise_in_thread(_: Turn, input: str) -> str:
            return _raise_or_return(input)

        worker.add(None, raise_it if where == "loop" else raise_in_thread)
        async with working(worker):
            for name in RAISED:
                beside = await kernel.dispatch("desk", "")
                failed = await closed(desk, await kernel.dispatch("desk", name))
                report = failed.final_payload
                assert (failed.outcome, report["error"]) == ("failed", "handler_error"), name
                assert report["type"] == _told_as(name, where), report
                assert len(report["message"]) <= 2000
                assert (await closed(desk, beside)).outcome == "succeeded"


def _raise_or_return(name: str) -> str:
    if name:
        raise RAISED[name]()
    return "done"


def _told_as(name: str, where: str) -> str:
    """What ends coroutines is another exception where it comes out of one, or out of a thread."""
    is_other = name == "StopIteration" or (name == "GeneratorExit" and where == "thread")
    return "RuntimeError" if is_other else name


async def test_keyboard_interrupt_in_a_thread_is_no_ctrl_c(kernel: LocalKernel) -> None:
    """Python tells the main thread of signals, and no other."""
    async with await kernel.agent("desk") as desk:

        def handle(_: Turn) -> None:
            raise KeyboardInterrupt

        turn = await kernel.dispatch("desk", {})
        await Worker(desk, handle).once()
        report = (await closed(desk, turn)).final_payload
        assert "KeyboardInterrupt" in report["message"]


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trios_cancelled_raised_out_of_its_scope_fails_the_turn(kernel: LocalKernel) -> None:
    """Somebody kept it, and raises it where nothing is cancelled."""
    async with await kernel.agent("desk") as desk:

        async def handle(_: Turn) -> None:
            kept: list[BaseException] = []
            with trio.CancelScope() as scope:
                scope.cancel()
                try:
                    await trio.lowlevel.checkpoint()
                except trio.Cancelled as cancelled:
                    kept.append(cancelled)
            raise kept[0]

        turn = await kernel.dispatch("desk", {})
        await Worker(desk, handle).once()
        assert (await closed(desk, turn)).final_payload["type"] == "Cancelled"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("awaits", [True, False])
async def test_a_handler_that_cancels_its_own_task_harms_nobody_else(
    kernel: LocalKernel, awaits: bool
) -> None:
    """Neither while it runs, nor, where the cancellation comes after its end, what settles its turn."""
    async with await kernel.agent("desk") as desk:

        async def handle(_: Turn) -> str:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            if awaits:
                await asyncio.sleep(1)
            return "done"

        turn = await kernel.dispatch("desk", {})
        await Worker(desk, handle).once()
        ended = await closed(desk, turn)
        assert ended.outcome == ("failed" if awaits else "succeeded")
        assert (await history(desk, turn)).count("turn.claimed") == 1


async def test_an_outcome_that_cannot_be_settled_is_its_handlers_fault_at_once(kernel: LocalKernel) -> None:
    """Not one attempt after the other, until there are too many."""

    class Custom:
        def __init__(self, outcome: Any) -> None:
            self.outcome = outcome

        async def __call__(self, _: Turn) -> Any:
            if isinstance(self.outcome, BaseException):
                raise self.outcome
            return self.outcome

    async with await kernel.agent("desk") as desk:
        for outcome in (HandlerFailed({1, 2}), fail({1, 2}), Suspended(5), "plain"):  # type: ignore[arg-type]
            turn = await kernel.dispatch("desk", {})
            await Worker(desk, Custom(outcome)).once()
            report = (await closed(desk, turn)).final_payload
            assert (report["error"], report["type"]) == ("handler_error", "TypeError"), outcome


WAYS_TO_LOSE = ("raise", "group", "wrap", "swallow")


@pytest.mark.parametrize("way", WAYS_TO_LOSE)
async def test_a_fenced_call_is_a_lost_lease_and_the_next_attempt_runs(kernel: LocalKernel, way: str) -> None:
    """Whatever the handler makes of it: it is no failure, and nothing of it is delivered later."""
    attempts: list[int] = []
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=WorkerOptions(wait_seconds=5))

        @worker.turn()
        async def handle(turn: Turn) -> Any:
            attempts.append(turn.attempt)
            if turn.attempt == 1:
                await kernel.faults.steal_lease(turn.ref)  # as if the machine had slept
                return await _be_fenced(turn, way)
            return "done"

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            ended = await closed(desk, turn)
        assert (ended.outcome, ended.final_payload) == ("succeeded", "done")
        assert attempts == [1, 2]


async def _be_fenced(turn: Turn, way: str) -> Any:
    if way == "group":
        async with anyio.create_task_group() as group:
            group.start_soon(turn.record, 1)
            group.start_soon(turn.record, 2)
    try:
        await turn.once("step", lambda: 1) if way == "swallow" else await turn.record({"n": 1})
    except LeaseLost as lost:
        if way == "raise":
            raise
        if way == "wrap":
            raise ValueError("the record could not be made") from lost
    return fail({"error": "no_record"})


async def test_an_async_handler_that_does_not_end_gives_back_its_slot_and_its_turn(
    kernel: LocalKernel,
) -> None:
    """It shields itself, or swallows what ends it: the time limit holds, and the next turn is worked."""
    witness, may_end = Witness(), anyio.Event()
    async with await kernel.agent("desk") as desk:
        options = WorkerOptions(wait_seconds=5, concurrency=1, time_limit_seconds=0.2, interrupt_seconds=0.1)
        worker = Worker(desk, options=options, listener=witness)

        @worker.turn()
        async def handle(_: Turn, input: str) -> str:
            if input == "shield":
                with anyio.CancelScope(shield=True):
                    await may_end.wait()
            while input == "swallow" and not may_end.is_set():
                try:
                    await anyio.sleep(0.05)
                except BaseException:
                    await _wait_shielded(0.05)
            return "done"

        async with working(worker):
            for way in ("shield", "swallow"):
                stuck, next_turn = await kernel.dispatch("desk", way), await kernel.dispatch("desk", "go")
                assert (await closed(desk, stuck)).final_payload["error"] == "deadline_exceeded"
                assert (await closed(desk, next_turn)).outcome == "succeeded"
            may_end.set()
        counts = [each.stuck_count for each in witness.of(HandlerStuck)]
        assert counts[:2] == [1, 2]  # more where a lease was lost on a busy machine


async def _wait_shielded(seconds: float) -> None:
    with anyio.CancelScope(shield=True):
        await anyio.sleep(seconds)


async def test_what_a_turn_shields_is_not_stuck() -> None:
    """`turn.shield` is how a handler says that it needs longer than the time to interrupt it."""
    witness = Witness()
    async with local_kernel(lease_seconds=10) as kernel, await kernel.agent("desk") as desk:
        options = WorkerOptions(time_limit_seconds=0.1, interrupt_seconds=0)
        saved = anyio.Event()

        async def handle(turn: Turn) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                with turn.shield(20):
                    await anyio.sleep(2.5)
                    saved.set()

        turn = await kernel.dispatch("desk", {})
        await Worker(desk, handle, options=options, listener=witness).once()
        assert saved.is_set()
        assert (await closed(desk, turn)).final_payload["error"] == "deadline_exceeded"
        assert not witness.of(HandlerStuck)


async def test_hooks_and_listeners_that_raise_end_no_worker(kernel: LocalKernel) -> None:
    """They are the user's code as handlers are, though no turn fails by them."""

    class Desk(Worker):
        async def on_claimed(self, _: Turn) -> None:
            raise Panic

        async def handle(self, _: Turn) -> str:
            return "done"

    def listen(_: object) -> None:
        sys.exit(3)

    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        await Desk(desk, listener=listen).once()
        assert (await closed(desk, turn)).outcome == "succeeded"
