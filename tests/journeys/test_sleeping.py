"""Turns that wait for time to pass: sleeps, retries, and questions with a time limit (difference 30)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import anyio
import pytest

from cgworker import AnswerTimeout, KernelClient, Turn, TurnRef, Worker, WorkerOptions, answer_question, retry
from cgworker.errors import ConflictError, KernelLacks
from cgworker.kernel.store.claims.due_claim import LeadTime
from cgworker.testing import LocalKernel, local_kernel
from cgworker.wire.schedules import PutSchedule
from tests.journeys.conftest import closed, history, in_state, working

OPTIONS = WorkerOptions(concurrency=1, wait_seconds=5)
DAY = 86_400


@pytest.fixture
async def days(anyio_backend: Any) -> AsyncIterator[LocalKernel]:  # noqa: ARG001  # it runs on that
    """A kernel of the test's own, whose clock it can move."""
    async with local_kernel() as kernel:
        yield kernel


@pytest.fixture(params=[False, True], ids=["ours", "plain"])
def any_kernel(kernel: LocalKernel, request: pytest.FixtureRequest) -> LocalKernel:
    """A kernel that keeps time, and one that does not, as the reference's."""
    if request.param:
        kernel.faults.ignore_preferences()
    return kernel


def napping(kernel: KernelClient, seconds: float) -> tuple[Worker, list[str]]:
    """A worker whose handler sleeps between two steps, and what its handler has done."""
    worker, done = Worker(kernel, options=OPTIONS), []

    @worker.turn()
    async def nap(turn: Turn) -> str:
        done.append("begun")
        await turn.sleep(seconds, key="nap")
        done.append("slept")
        return "rested"

    return worker, done


async def test_no_handler_starts_before_its_turn_is_due(
    kernel: LocalKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the kernel makes the claim that waits for it a good while earlier."""
    monkeypatch.setattr(LeadTime, "note", lambda *_: None)
    monkeypatch.setattr(kernel._kernel.timers, "_lead", LeadTime(0.0, 0.3))  # noqa: SLF001  # not that much ahead
    desk, handled = await kernel.agent("desk"), dict[str, float]()
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def note(turn: Turn) -> None:
        handled[turn.ref.turn_id] = time.time()

    async with working(worker):
        for delay_seconds in (0.5, 0.2, 0.1, 0.4):
            turn = await kernel.dispatch("desk", {}, delay_seconds=delay_seconds)
            due = (await closed(desk, turn)).not_before
            assert isinstance(due, datetime)
            assert handled[turn.turn_id] >= due.timestamp()


async def test_a_turn_sleeps_for_a_day_and_no_worker_need_be_alive(days: LocalKernel) -> None:
    """It holds no slot meanwhile, is not woken early, and goes on with the first worker that comes."""
    desk = await days.agent("desk")
    worker, done = napping(desk, DAY)
    turn = await days.dispatch("desk", {})
    await worker.once()
    assert (await in_state(desk, turn, "suspended")).resume_at is not None
    await days.advance(DAY - 60)
    assert (await desk.turns.get(turn)).state == "suspended"
    await days.advance(60)
    assert (await desk.turns.get(turn)).state == "queued"
    await worker.once()
    assert (await closed(desk, turn)).final_payload == "rested"
    assert done == ["begun", "begun", "slept"]
    assert (await history(desk, turn)).count("turn.resumed") == 1


async def test_a_sleep_counts_from_its_first_call(days: LocalKernel) -> None:
    """Resumed early, it goes on sleeping for the rest, and for no more than that."""
    desk = await days.agent("desk")
    worker, done = napping(desk, DAY)
    turn = await days.dispatch("desk", {})
    await worker.once()
    await days.advance(DAY - 600)
    assert desk.agent is not None
    await desk.turns.resume(turn, requested_by=desk.agent)
    await worker.once()
    assert (await desk.turns.get(turn)).state == "suspended"
    await days.advance(600)
    await worker.once()
    assert (await closed(desk, turn)).final_payload == "rested"
    assert done == ["begun", "begun", "begun", "slept"]


async def test_a_short_sleep_is_over_at_every_kernel(any_kernel: LocalKernel) -> None:
    """Where the kernel keeps no time, a worker of the agent does."""
    async with await any_kernel.agent("desk") as desk:
        worker, _ = napping(desk, 0.3)
        turn = await any_kernel.dispatch("desk", {})
        async with working(worker):
            assert (await closed(desk, turn)).final_payload == "rested"
        record = next(item for item in (await desk.turns.context(turn)).semantic_items if item.payload != {})
        assert record.payload == {"key": "nap", "seconds": 0.3}


async def test_a_retry_after_a_while_needs_no_worker_at_our_kernel(days: LocalKernel) -> None:
    """The kernel queues it; a delay of none at once."""
    desk = await days.agent("desk")
    worker, waits = Worker(desk, options=OPTIONS), [0, DAY]

    @worker.turn()
    async def stumble(_: Turn) -> Any:
        return retry(waits.pop()) if waits else "third time lucky"

    turn = await days.dispatch("desk", {})
    await worker.once()
    assert (await desk.turns.get(turn)).state == "suspended"
    await days.advance(DAY)
    await worker.once()
    await in_state(desk, turn, "queued")
    await worker.once()
    assert (await closed(desk, turn)).final_payload == "third time lucky"


def patient(kernel: KernelClient, seconds: float) -> Worker:
    """A worker whose handler asks, gives up after so long, and sleeps on it for an hour then."""
    worker = Worker(kernel, options=OPTIONS)

    @worker.turn()
    async def ask(turn: Turn) -> Any:
        try:
            answer: Any = await turn.ask(bool, "Ship it?", key="ship", timeout_seconds=seconds)
        except AnswerTimeout as late:
            answer = f"no answer to {late.key}"
        await turn.sleep(3600, key="think")
        return answer

    return worker


async def test_a_question_waits_as_long_as_it_is_told(days: LocalKernel) -> None:
    """Then every attempt is told so, and an answer that comes too late is refused."""
    desk = await days.agent("desk")
    worker = patient(desk, DAY)
    turn = await days.dispatch("desk", {})
    await worker.once()
    await days.advance(DAY)
    await worker.once()
    with pytest.raises(ConflictError, match="no open question"):
        await answer_question(desk, turn, True)
    await days.advance(3600)
    await worker.once()
    assert (await closed(desk, turn)).final_payload == "no answer to ship"
    roles = [item.record.record_role for item in (await desk.turns.context(turn)).semantic_items]
    assert roles.count("answer_timeout") == 1


async def test_an_answer_in_time_stays_the_answer(days: LocalKernel) -> None:
    """However long the rest of the turn takes."""
    desk = await days.agent("desk")
    worker = patient(desk, DAY)
    turn = await days.dispatch("desk", {})
    await worker.once()
    await answer_question(desk, turn, True)
    await worker.once()
    await days.advance(2 * DAY)
    await worker.once()
    assert (await closed(desk, turn)).final_payload is True


async def test_a_question_times_out_at_every_kernel(any_kernel: LocalKernel) -> None:
    """Where the kernel keeps no time, a worker of the agent does."""
    async with await any_kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def ask(turn: Turn) -> Any:
            return await turn.ask(bool, "Ship it?", key="ship", timeout_seconds=0.3)

        turn = await any_kernel.dispatch("desk", {})
        async with working(worker):
            ended = await closed(desk, turn)
        assert ended.outcome == "failed"
        assert "was not answered in time" in str(ended.final_payload)


async def test_what_is_waited_for_at_once_is_woken_by_the_first_time(days: LocalKernel) -> None:
    """A sleep beside a question with a time limit: the limit is noticed before the sleep is over."""
    desk = await days.agent("desk")
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def both(turn: Turn) -> Any:
        said: list[str] = []

        async def ask() -> None:
            try:
                await turn.ask(bool, "Ship it?", key="ship", timeout_seconds=60)
            except AnswerTimeout:
                said.append("timeout")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await turn.sleep(DAY, key="nap")
        return said

    turn = await days.dispatch("desk", {})
    await worker.once()
    await days.advance(60)
    await worker.once()
    roles = [item.record.record_role for item in (await desk.turns.context(turn)).semantic_items]
    assert "answer_timeout" in roles
    await days.advance(DAY)
    await worker.once()
    assert (await closed(desk, turn)).final_payload == ["timeout"]


async def test_a_stop_wakes_a_sleeping_turn(kernel: LocalKernel) -> None:
    """The next worker settles it as stopped; nobody waits for a day."""
    async with await kernel.agent("desk", grants=["turn.stop.any"]) as desk:
        worker, _ = napping(desk, DAY)
        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await in_state(desk, turn, "suspended")
            assert desk.agent is not None
            await desk.turns.stop(turn, requested_by=desk.agent)
            assert (await closed(desk, turn)).outcome == "stopped"


async def test_a_kernel_that_keeps_no_time_says_so(kernel: LocalKernel) -> None:
    """The client drops no wish in silence, and the claim goes on."""
    kernel.faults.ignore_preferences()
    async with await kernel.agent("desk") as desk:
        assert desk.agent is not None
        turn = await kernel.dispatch("desk", {})
        claim = (await desk.claims.claim(desk.agent)).claimed
        assert claim is not None
        with pytest.raises(KernelLacks, match="resume_after_seconds"):
            await desk.turns.suspend(claim, "nap", resume_after_seconds=5)
        assert (await state_of(desk, turn)) == "running"


async def test_a_kernel_without_schedules_says_so(kernel: LocalKernel) -> None:
    """As the reference's; the same calls work at ours."""
    async with await kernel.agent("desk") as desk:
        assert desk.agent is not None
        hourly = PutSchedule(requested_by=desk.agent, target_agent=desk.agent, cron="@every 1h", input={})
        made = await desk.schedules.put("hourly", hourly)
        assert [each async for each in desk.schedules.all(desk.agent.project_id)] == [made]
        turn = await desk.schedules.trigger("hourly", requested_by=desk.agent)
        assert (await desk.schedules.get(desk.agent.project_id, "hourly")).last_turn == turn
        kernel.faults.ignore_preferences()
        with pytest.raises(KernelLacks, match="schedules"):
            await desk.schedules.get(desk.agent.project_id, "hourly")
        kernel.faults.clear()
        await desk.schedules.delete(desk.agent.project_id, "hourly")


async def state_of(kernel: KernelClient, turn: TurnRef) -> str:
    """The turn's state now."""
    return (await kernel.turns.get(turn)).state
