"""What the reference's server lacks ends in `KernelLacks`, and what can do without it works there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from attrs import evolve

from cgworker import (
    AnswerTimeout,
    CommandHandler,
    KernelLacks,
    QuestionDeclined,
    Retries,
    Turn,
    Worker,
    decline_question,
)
from cgworker.wire.order import Order
from cgworker.wire.schedules import PutSchedule
from tests.conformance.peer.elsewhere import OPTIONS, Desk
from tests.journeys.conftest import working


async def test_a_turn_there_cannot_be_told_anything(desk: Desk) -> None:
    """The error names the kernel; no record is made of it."""
    turn = await desk.dispatch({})
    with pytest.raises(KernelLacks, match="telling turns something") as lacking:
        await desk.asker.turns.tell(turn, "hello", key="m1")
    assert lacking.value.kernel == desk.asker.base_url
    assert len([item async for item in desk.asker.turns.records(turn)]) == 1


ORDERS: tuple[Order, ...] = (
    {"delay_seconds": 5.0},
    {"not_before": datetime(2126, 1, 1, tzinfo=UTC)},
    {"priority": 1},
    {"serial_key": "conversation-17"},
    {"fairness_key": "tenant-a"},
)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: next(iter(order)))
async def test_a_dispatch_there_has_no_order(desk: Desk, order: Order) -> None:
    """Of a turn of one's own, and of a child; nothing is dispatched without it."""
    [name] = order
    with pytest.raises(KernelLacks, match=f"dispatches with {name}"):
        await desk.asker.turns.dispatch(desk.dispatching({}, **order))
    assert (await desk.kernel.claims.claim(desk.agent)).claimed is None
    worker = Worker(desk.kernel, options=OPTIONS)

    @worker.turn()
    async def delegate(turn: Turn) -> None:
        await turn.children({"one": turn.child(desk.helper.agent_id, {}, **order)})

    turn = await desk.dispatch({})
    async with working(worker):
        payload = (await desk.closed(turn)).final_payload
    assert payload["type"] == "KernelLacks"
    assert (await desk.helper_kernel.claims.claim(desk.helper)).claimed is None


async def test_many_turns_cannot_be_dispatched_there_in_one_request(desk: Desk) -> None:
    """None of them is; the caller may dispatch one by one."""
    with pytest.raises(KernelLacks, match="dispatching many turns in one request"):
        await desk.asker.turns.dispatch_many([desk.dispatching({}), desk.dispatching({})])
    assert (await desk.kernel.claims.claim(desk.agent)).claimed is None


async def test_a_turn_there_cannot_be_done_again(desk: Desk) -> None:
    """With or without its steps, closed or not."""
    worker = Worker(desk.kernel, handler=_nothing, options=OPTIONS)
    turn = await desk.dispatch({})
    async with working(worker):
        await desk.state(turn, "closed")
    for keep_steps in (False, True):
        with pytest.raises(KernelLacks, match="doing closed turns again"):
            await desk.asker.turns.redo(turn, keep_steps=keep_steps)


async def test_a_handler_that_waits_for_messages_there_is_told(desk: Desk) -> None:
    """It would wait for ever; one that looks for them only finds none."""
    seen: list[Any] = []
    worker = Worker(desk.kernel, options=OPTIONS)

    @worker.turn()
    async def listen(turn: Turn) -> None:
        seen.extend([message async for message in turn.messages(wait=False)])
        async for _ in turn.messages():
            pass

    turn = await desk.dispatch({})
    async with working(worker):
        payload = (await desk.state(turn, "closed")).final_payload
    assert (payload["type"], seen) == ("KernelLacks", [])


async def test_a_command_there_finds_an_empty_messages_file(desk: Desk) -> None:
    """And works on for longer than the worker waits before it asks for messages."""
    script = 'sleep 2; wc -c < "$CG_MESSAGES_FILE" > "$CG_FINAL_FILE"'
    worker = Worker(desk.kernel, handler=CommandHandler(["sh", "-c", script]), options=OPTIONS)
    turn = await desk.dispatch({})
    async with working(worker):
        assert (await desk.state(turn, "closed")).final_payload == 0


async def test_retries_are_made_there_by_a_worker_that_lives(desk: Desk) -> None:
    """By `not_before` in the annotations, and counted in its ledger."""
    worker = Worker(desk.kernel, options=evolve(OPTIONS, retries=Retries(2, first_seconds=0.2)))
    runs: list[int] = []

    @worker.turn()
    async def fail(_: Turn) -> None:
        runs.append(1)
        raise OSError("no")

    turn = await desk.dispatch({})
    async with working(worker):
        payload = (await desk.state(turn, "closed", seconds=60)).final_payload
    assert (payload["error"], payload["retries"], len(runs)) == ("retries_exhausted", 2, 3)


async def test_a_question_is_declined_there(desk: Desk) -> None:
    """Declining needs nothing that this server lacks."""
    worker = Worker(desk.kernel, options=OPTIONS)

    @worker.turn()
    async def ask(turn: Turn) -> Any:
        try:
            return await turn.ask(bool, "May I?", key="may")
        except QuestionDeclined as declined:
            return {"declined": declined.reason}

    turn = await desk.dispatch({})
    async with working(worker):
        await desk.state(turn, "suspended")
        await decline_question(desk.kernel, turn, "no")
        with anyio.fail_after(60):
            assert (await desk.state(turn, "closed", seconds=60)).final_payload == {"declined": "no"}


async def _nothing(_: Turn) -> None:
    pass


async def test_a_kernel_without_schedules_says_so(desk: Desk) -> None:
    """Whatever is asked of them; nothing is dropped in silence."""
    agent, calls = desk.asker.agent, desk.asker.schedules
    assert agent is not None
    schedule = PutSchedule(requested_by=agent, target_agent=agent, cron="@every 1h", input={})
    for ask in (
        lambda: calls.put("hourly", schedule),
        lambda: calls.get(agent.project_id, "hourly"),
        lambda: calls.pause("hourly", requested_by=agent),
        lambda: calls.unpause("hourly", requested_by=agent),
        lambda: calls.trigger("hourly", requested_by=agent),
        lambda: calls.delete(agent.project_id, "hourly"),
        lambda: anext(calls.all(agent.project_id)),
    ):
        with pytest.raises(KernelLacks, match="schedules"):
            await ask()


async def test_a_kernel_that_wakes_no_turns_says_so(desk: Desk) -> None:
    """The suspension is not made, and the claim goes on."""
    turn = await desk.dispatch({})
    assert desk.kernel.agent is not None
    claim = (await desk.kernel.claims.claim(desk.kernel.agent)).claimed
    assert claim is not None
    with pytest.raises(KernelLacks, match="resume_after_seconds"):
        await desk.kernel.turns.suspend(claim, "nap", resume_after_seconds=5)
    assert (await desk.asker.turns.get(turn)).state == "running"
    await desk.kernel.turns.finish(claim, "succeeded")


async def test_a_turn_sleeps_and_a_question_times_out_there(desk: Desk) -> None:
    """A worker of the agent wakes them, by that kernel's clock."""
    worker = Worker(desk.kernel, options=OPTIONS)

    @worker.turn()
    async def wait(turn: Turn) -> str:
        await turn.sleep(0.5, key="nap")
        try:
            return str(await turn.ask(bool, "Ship it?", key="ship", timeout_seconds=0.5))
        except AnswerTimeout:
            return "nobody answered"

    turn = await desk.dispatch({})
    async with working(worker):
        assert (await desk.closed(turn)).final_payload == "nobody answered"
