"""Durable handlers at the reference's server: what they keep is plain records, events and annotations."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import frozen

from cgworker import Turn, Worker, WorkerOptions, answer_question, open_questions
from tests.conformance.peer.elsewhere import OPTIONS, Desk
from tests.journeys.conftest import working


@frozen
class Approval:
    granted: bool


async def test_a_fan_out_comes_back_with_its_results(desk: Desk) -> None:
    """Woken by the parent's feed, which this server has to be asked for."""
    helper = Worker(desk.helper_kernel, options=OPTIONS)
    worker = Worker(desk.kernel, options=OPTIONS)

    @helper.turn()
    async def square(_: Turn, n: int) -> dict[str, int]:
        return {"square": n * n}

    @worker.turn()
    async def ask_around(turn: Turn) -> Any:
        wanted = {str(n): turn.child(desk.helper.agent_id, n) for n in range(3)}
        found = await turn.children(wanted)
        return [found[str(n)].payload["square"] for n in range(3)]

    turn = await desk.dispatch({})
    async with working(worker), working(helper):
        assert (await desk.state(turn, "closed", seconds=60)).final_payload == [0, 1, 4]


async def test_many_parents_are_woken_by_the_projects_feed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events name whose child was closed, as ours do."""
    monkeypatch.setattr("cgworker.worker.resuming.child_waits._MAX_FEEDS", 1)
    helper = Worker(desk.helper_kernel, options=OPTIONS)
    worker = Worker(desk.kernel, options=OPTIONS)

    @helper.turn()
    async def square(_: Turn, n: int) -> int:
        return n * n

    @worker.turn()
    async def ask(turn: Turn, n: int) -> Any:
        return (await turn.children({"one": turn.child(desk.helper.agent_id, n)}))["one"].payload

    turns = [await desk.dispatch(n) for n in range(4)]
    async with working(worker):
        for turn in turns:
            await desk.state(turn, "suspended")
        async with working(helper):
            found = [(await desk.state(turn, "closed", seconds=60)).final_payload for turn in turns]
    assert found == [0, 1, 4, 9]


async def test_an_approval_waits_without_a_worker(desk: Desk) -> None:
    """Asked by one worker, answered while none runs, read by another."""

    def asking() -> Worker:
        worker = Worker(desk.kernel, options=OPTIONS)

        @worker.turn()
        async def ask(turn: Turn) -> Any:
            number = await turn.once("number", lambda: 42)
            return [number, (await turn.ask(Approval, "May I?", key="approval")).granted]

        return worker

    turn = await desk.dispatch({})
    async with working(asking()):
        await desk.state(turn, "suspended")
    (question,) = [
        each
        for each in await open_questions(desk.kernel, turn.project_id, agent_id=desk.agent.agent_id)
        if each.turn == turn
    ]
    assert question.question == "May I?"
    await answer_question(desk.kernel, turn, {"granted": True})
    async with working(asking()):
        assert (await desk.state(turn, "closed", seconds=60)).final_payload == [42, True]


async def test_a_stream_reaches_its_readers(desk: Desk) -> None:
    """In order, and whole."""
    worker = Worker(desk.kernel, options=WorkerOptions(poll_seconds=0.2))

    @worker.turn()
    async def talk(turn: Turn) -> None:
        async with turn.stream(max_characters=100) as out:
            for number in range(100):
                await out.write(f"{number} ")

    turn = await desk.dispatch({})
    async with working(worker):
        followed = [
            item.payload
            async for item in desk.asker.turns.follow(turn, poll_seconds=0.2)
            if item.record.record_role == "progress"
        ]
    assert "".join(piece["text"] for piece in followed) == "".join(f"{number} " for number in range(100))
