"""Retries: an exception is tried again, as often and as late as its policy says (difference 33)."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from cgworker import CommandHandler, Failed, HandlerFailed, Retries, Turn, Worker, WorkerOptions, handles
from cgworker.testing import LocalKernel, play
from cgworker.worker.suspension import SuspensionCause, cause_of_suspension
from tests.journeys.conftest import closed, in_state, working

OPTIONS = WorkerOptions(concurrency=1, wait_seconds=5)
AT_ONCE = Retries(count=2, first_seconds=0)


async def suspensions(kernel: Any, turn: Any) -> list[SuspensionCause]:
    """Why the turn was suspended, each time."""
    events = (await kernel.turns.feed(turn)).items
    return [cause_of_suspension(event) for event in events if event.event_type == "turn.suspended"]


async def test_an_exception_is_retried_and_the_ledger_counts(kernel: LocalKernel) -> None:
    """Reason `worker_retry`, the number and the error in the annotations; then it succeeds."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)
        runs: list[int] = []

        @worker.turn(retries=AT_ONCE)
        async def work(_: Turn) -> str:
            runs.append(1)
            if len(runs) < 3:
                raise ConnectionError(f"run {len(runs)}")
            return "done"

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            assert (await closed(desk, turn)).final_payload == "done"
        causes = await suspensions(desk, turn)
    assert [cause.reason for cause in causes] == ["worker_retry", "worker_retry"]
    assert [cause.annotations["retry"] for cause in causes] == [1, 2]
    assert causes[1].annotations["error"] == {
        "error": "handler_error",
        "type": "ConnectionError",
        "message": "run 2",
    }


async def test_another_worker_goes_on_counting(kernel: LocalKernel) -> None:
    """The count is the turn's, wherever it is worked; after the last retry the turn fails with the report."""
    async with await kernel.agent("desk") as desk:

        async def fail(_: Turn) -> None:
            raise OSError("no")

        turn = await kernel.dispatch("desk", {})
        for number in (1, 2):
            worker = Worker(desk, handler=fail, options=WorkerOptions(retries=AT_ONCE))
            assert (await worker.once(wait_seconds=5)) is not None, number
        await Worker(desk, handler=fail, options=WorkerOptions(retries=AT_ONCE)).once(wait_seconds=5)
        found = await desk.turns.get(turn)
    last = {"error": "handler_error", "type": "OSError", "message": "no"}
    assert (found.outcome, found.final_payload) == (
        "failed",
        {"error": "retries_exhausted", "retries": 2, "last": last},
    )


async def test_a_retry_waits(kernel: LocalKernel) -> None:
    """The turn is suspended for the seconds of the policy; it is not tried before."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)
        runs: list[int] = []

        @worker.turn(retries=Retries(first_seconds=3600))
        async def work(_: Turn) -> None:
            runs.append(1)
            raise OSError("no")

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await in_state(desk, turn, "suspended")
        assert len(runs) == 1


async def test_what_is_not_to_be_retried_fails_at_once() -> None:
    """With the report, and no retry."""

    async def work(_: Turn) -> None:
        raise UnicodeError("bad")  # a ValueError

    played = await play(work, options=WorkerOptions(retries=Retries(not_for=(ValueError,))))
    last = {"error": "handler_error", "type": "UnicodeError", "message": "bad"}
    assert played.outcome == Failed({"error": "retries_exhausted", "retries": 0, "last": last})


async def test_a_failure_that_the_handler_describes_is_not_retried() -> None:
    """`HandlerFailed` and `fail()` are decisions."""

    async def work(_: Turn) -> None:
        raise HandlerFailed({"error": "no_such_customer"})

    played = await play(work, options=WorkerOptions(retries=AT_ONCE))
    assert (played.outcome, played.entered_count) == (Failed({"error": "no_such_customer"}), 1)


async def test_play_follows_retries_without_waiting_for_them() -> None:
    """A policy of hours takes no time in a test."""

    async def work(_: Turn) -> None:
        raise OSError("no")

    played = await play(work, options=WorkerOptions(retries=Retries(3, first_seconds=3600, max_seconds=9e9)))
    assert played.entered_count == 4
    assert played.payload["retries"] == 3


async def test_a_handlers_own_policy_goes_before_the_workers(kernel: LocalKernel) -> None:
    """Also one of none, on a method or a function; other kinds have the worker's."""
    async with await kernel.agent("desk", kinds=("turn.a.v1", "turn.b.v1", "turn.c.v1")) as desk:

        class Desk(Worker):
            @handles("turn.a.v1", retries=Retries(0))
            async def never(self, _: Turn) -> None:
                raise OSError("a")

            @handles("turn.b.v1")
            async def as_the_worker(self, _: Turn) -> None:
                raise OSError("b")

        worker = Desk(desk, options=WorkerOptions(retries=Retries(1, first_seconds=0)))
        worker.add("turn.c.v1", _raise, retries=Retries(2, first_seconds=0))
        counts = {}
        async with working(worker):
            for kind in ("turn.a.v1", "turn.b.v1", "turn.c.v1"):
                turn = await kernel.dispatch("desk", {}, kind=kind)
                counts[kind] = (await closed(desk, turn)).final_payload["retries"]
    assert list(counts.values()) == [0, 1, 2]


async def _raise(_: Turn) -> None:
    raise OSError("c")


async def test_a_command_that_fails_is_retried(kernel: LocalKernel) -> None:
    """By its exit status; its last report is the failure's."""
    async with await kernel.agent("desk") as desk:
        command = CommandHandler([sys.executable, "-c", "import sys; sys.exit('broken')"])
        worker = Worker(desk, handler=command, options=WorkerOptions(retries=Retries(1, first_seconds=0)))
        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            payload = (await closed(desk, turn)).final_payload
    assert (payload["error"], payload["retries"]) == ("retries_exhausted", 1)
    assert payload["last"] == {
        "error": "worker_command_failed",
        "child_exit_code": 1,
        "stderr_tail": ["broken"],
    }


async def test_a_stop_ends_a_turn_that_waits_for_its_retry(kernel: LocalKernel) -> None:
    """Without waiting for it."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, handler=_raise, options=WorkerOptions(retries=Retries(first_seconds=3600)))
        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await in_state(desk, turn, "suspended")
            assert desk.agent is not None
            await desk.turns.stop(turn, requested_by=desk.agent)
            assert (await closed(desk, turn)).outcome == "stopped"


@pytest.mark.parametrize(
    ("retry", "least", "most"), [(1, 0.5, 1), (3, 2, 4), (9, 128, 256), (10_000, 150, 300)]
)
def test_waits_grow_up_to_the_longest_one(retry: int, least: float, most: float) -> None:
    """By the factor, with jitter of up to a half; however many there were."""
    assert all(least <= Retries(20_000).seconds_before(retry) <= most for _ in range(100))


@pytest.mark.parametrize(
    "wrong", [{"count": -1}, {"first_seconds": -1}, {"factor": 0.5}, {"max_seconds": 0}], ids=str
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """Where it is written, not when it is needed."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Retries(**wrong)
