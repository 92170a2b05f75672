"""Questions: a handler asks, holds no slot meanwhile, and begins again with the answer, days later."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, Literal

import anyio
import pytest
from attrs import frozen

from cgworker import (
    FencingError,
    KernelClient,
    Turn,
    TurnRef,
    UsageError,
    Worker,
    WorkerOptions,
    answer_question,
    open_questions,
    suspend,
)
from cgworker.client.turns import TurnCalls
from cgworker.errors import ConflictError, InvalidRequest
from cgworker.testing import LocalKernel
from cgworker.wire.meta import Meta
from tests.journeys.conftest import closed, in_state, working

OPTIONS = WorkerOptions(concurrency=1, renew_seconds=0.2, wait_seconds=5)


@frozen
class Approval:
    """What the boss says."""

    granted: bool
    limit: int = 10


def asking(kernel: KernelClient, schema: Any = Approval) -> Worker:
    """A worker whose handler asks for an approval."""
    worker = Worker(kernel, options=OPTIONS)

    @worker.turn()
    async def ask(turn: Turn) -> Any:
        return {"answer": await turn.ask(schema, "May I?", key="approval")}

    return worker


async def asked(kernel: KernelClient, turn: TurnRef, key: str) -> None:
    """Once the question of this key is there."""
    with anyio.fail_after(60):
        async with aclosing(kernel.turns.follow(turn)) as records:
            async for item in records:
                if item.record.record_role == "question" and item.payload["key"] == key:
                    return


async def test_an_answer_outlives_the_worker_that_asked(kernel: LocalKernel) -> None:
    """Asked by one worker, answered while none runs, read by another; typed, and kept as a record."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        async with working(asking(desk)):
            await in_state(desk, turn, "suspended")

        (question,) = await open_questions(desk, turn.project_id, agent_id="desk")
        assert (question.turn, question.key, question.question) == (turn, "approval", "May I?")
        assert question.schema["$defs"]["Approval"]["required"] == ["granted"]
        assert await answer_question(desk, turn, {"granted": True}) == "approval"
        assert await open_questions(desk, turn.project_id) == ()

        async with working(asking(desk)):
            found = await closed(desk, turn)
        assert found.final_payload == {"answer": {"granted": True, "limit": 10}}
        records = {item.record.record_role: item.payload async for item in desk.turns.records(turn)}
        assert (records["answer"]["value"], records["answer"]["answered_by"]) == ({"granted": True}, "desk")


async def test_a_second_answer_is_a_conflict(kernel: LocalKernel) -> None:
    """The first one stands, and the second says so."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        async with working(asking(desk, bool)):
            await in_state(desk, turn, "suspended")
        await answer_question(desk, turn, True)
        with pytest.raises(ConflictError, match="no open question"):
            await answer_question(desk, turn, False)
        async with working(asking(desk, bool)):
            assert (await closed(desk, turn)).final_payload == {"answer": True}


async def test_only_one_of_many_answers_at_once_stands(kernel: LocalKernel) -> None:
    """Eight people click at the same moment: one is heard, seven are told."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        async with working(asking(desk, int)):
            await in_state(desk, turn, "suspended")
        heard: list[int] = []

        async def click(number: int) -> None:
            try:
                await answer_question(desk, turn, number)
            except ConflictError:
                return
            heard.append(number)

        async with anyio.create_task_group() as people:
            for number in range(8):
                people.start_soon(click, number)
        async with working(asking(desk, int)):
            assert [(await closed(desk, turn)).final_payload["answer"]] == heard


async def test_an_answer_has_to_fit_the_question(kernel: LocalKernel) -> None:
    """It is looked at before it is sent, and nothing is sent that does not fit."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        async with working(asking(desk)):
            await in_state(desk, turn, "suspended")
        with pytest.raises(InvalidRequest, match=r"answer\.granted"):
            await answer_question(desk, turn, {"granted": "of course"})
        with pytest.raises(ConflictError, match="no open question 'other'"):
            await answer_question(desk, turn, {"granted": True}, key="other")
        assert (await desk.turns.get(turn)).state == "suspended"


async def test_a_turn_that_was_resumed_with_nonsense_waits_on(kernel: LocalKernel) -> None:
    """Whoever resumes by hand can send anything: it is kept as refused, and the question stays open."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        async with working(asking(desk)):
            for nonsense in ({"answer": {"key": "approval", "value": "yes"}}, {"answer": 7}, {}):
                await in_state(desk, turn, "suspended")
                await desk.turns.resume(
                    turn,
                    requested_by=desk.agent,  # type: ignore[arg-type]
                    meta=Meta(annotations=nonsense),
                )
                await desk.turns.get(turn, state="suspended", wait_seconds=5)
            await in_state(desk, turn, "suspended")
            await answer_question(desk, turn, {"granted": False, "limit": 0})
            found = await closed(desk, turn)
        assert found.final_payload == {"answer": {"granted": False, "limit": 0}}
        roles = [item.record.record_role async for item in desk.turns.records(turn)]
        assert roles == ["bootstrap", "question", "answer_refused", "answer", "deliverable"]


async def test_a_stranger_may_not_answer(kernel: LocalKernel) -> None:
    """The kernel decides who may resume; the error says who can."""
    async with await kernel.agent("desk") as desk, await kernel.agent("stranger") as stranger:
        boss = await kernel.agent("boss", grants=["turn.resume.any"])
        turn = await kernel.dispatch("desk", {})
        async with working(asking(desk, bool)):
            await in_state(desk, turn, "suspended")
            with pytest.raises(
                FencingError, match=r"desk itself, or an agent with the grant turn\.resume\.any"
            ):
                await answer_question(stranger, turn, True)
            await answer_question(boss, turn, True)
            assert (await closed(desk, turn)).final_payload == {"answer": True}


async def test_an_answer_whose_own_answer_was_lost_is_delivered_once(kernel: LocalKernel) -> None:
    """The connection broke after the kernel had it: asking the turn's events tells that it arrived."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        async with working(asking(desk, bool)):
            await in_state(desk, turn, "suspended")
        kernel.faults.drop_response("resume")
        assert await answer_question(desk, turn, True) == "approval"
        async with working(asking(desk, bool)):
            assert (await closed(desk, turn)).final_payload == {"answer": True}


async def test_an_answer_is_delivered_though_reading_back_fails_once_too(
    kernel: LocalKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel restarts: the answer to the resume is lost, and then the question whether it arrived."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        async with working(asking(desk, bool)):
            await in_state(desk, turn, "suspended")
        resume = TurnCalls.resume

        async def resume_badly(*args: Any, **options: Any) -> None:
            monkeypatch.undo()
            kernel.faults.drop_response("resume")
            kernel.faults.answer("feed")
            await resume(*args, **options)

        monkeypatch.setattr(TurnCalls, "resume", resume_badly)
        assert await answer_question(desk, turn, True) == "approval"
        async with working(asking(desk, bool)):
            assert (await closed(desk, turn)).final_payload == {"answer": True}


async def test_questions_and_steps_survive_one_another(kernel: LocalKernel) -> None:
    """Two questions and a step between them: each asked and done once, over three claims."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)
        made: list[str] = []

        @worker.turn()
        async def interview(turn: Turn) -> Any:
            name = await turn.ask(str, {"text": "Who are you?"}, key="name")

            def greet() -> str:
                made.append(name)
                return f"hello {name}"

            greeting = await turn.once("greeting", greet)
            mood = await turn.ask({"enum": ["good", "bad"]}, "How are you?", key="mood")
            return [greeting, mood]

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await in_state(desk, turn, "suspended")
            await answer_question(desk, turn, "Ada")
            await asked(desk, turn, "mood")
            await in_state(desk, turn, "suspended")
            await answer_question(desk, turn, "good")
            assert (await closed(desk, turn)).final_payload == ["hello Ada", "good"]
        assert made == ["Ada"]


async def test_a_question_that_is_stopped_is_not_waited_for(kernel: LocalKernel) -> None:
    """Nobody but a worker of its agent can end a suspended turn: it does when it looks after them."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        async with working(asking(desk, bool)):
            await in_state(desk, turn, "suspended")
        await desk.turns.stop(turn, requested_by=desk.agent)  # type: ignore[arg-type]
        async with working(asking(desk, bool)):
            assert (await closed(desk, turn)).outcome == "stopped"


async def test_a_schema_that_is_none_is_the_handlers_mistake(kernel: LocalKernel) -> None:
    """It is found before anything is asked in public."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def ask(turn: Turn) -> Any:
            with pytest.raises(UsageError, match="no JSON Schema"):
                await turn.ask({"type": "nonsense"}, "?", key="a")
            return await turn.ask(Literal["yes", "no"], "?", key="b")

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await in_state(desk, turn, "suspended")
            await answer_question(desk, turn, "no")
            assert (await closed(desk, turn)).final_payload == "no"


async def test_an_answer_is_to_one_question_alone(kernel: LocalKernel) -> None:
    """Who allowed one thing has not allowed another one that is asked with the same key."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def clean_up(turn: Turn) -> str:
            assert await turn.ask(bool, "May I delete a?", key="sure")
            with pytest.raises(UsageError, match="another question needs another key"):
                await turn.ask(bool, "May I delete b?", key="sure")
            return "told"

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await in_state(desk, turn, "suspended")
            await answer_question(desk, turn, True)
            assert (await closed(desk, turn)).final_payload == "told"


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"$ref": "#"}, "to itself"),
        ({"$ref": "http://127.0.0.1:1/"}, "what is not in it"),
        ({"$ref": "#/missing"}, "what is not in it"),
        ({"pattern": "(?=a)"}, "lookaround"),
    ],
)
async def test_a_schema_that_cannot_be_used_is_refused(
    kernel: LocalKernel, schema: dict[str, str], told: str
) -> None:
    """When it is asked, and by whoever would answer it: nothing is fetched, nothing is sent."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def ask(turn: Turn) -> Any:
            with pytest.raises(UsageError, match=told):
                await turn.ask(schema, "?", key="a")
            await turn.record({"key": "b", "question": "?", "schema": schema}, role="question")
            return suspend("await_answer")

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await in_state(desk, turn, "suspended")
        with pytest.raises(UsageError, match=told):
            await answer_question(desk, turn, 1)
        assert (await desk.turns.get(turn)).state == "suspended"


@pytest.mark.parametrize("unread", [10**400, [[]] * 3])
async def test_an_answer_that_cannot_be_checked_or_read_is_refused(kernel: LocalKernel, unread: Any) -> None:
    """One that was sent by hand, too: the turn does not fail of it, its handler is not to blame."""
    asked = {"anyOf": [{"type": "string"}, {"multipleOf": 3, "maxItems": 2}]}
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        async with working(asking(desk, asked)):
            await in_state(desk, turn, "suspended")
            with pytest.raises(InvalidRequest):
                await answer_question(desk, turn, unread)
            by_hand = Meta(annotations={"answer": {"key": "approval", "value": unread}})
            await desk.turns.resume(turn, requested_by=desk.agent, meta=by_hand)  # type: ignore[arg-type]
            await desk.turns.get(turn, state="suspended", wait_seconds=5)
            await in_state(desk, turn, "suspended")
            await answer_question(desk, turn, "yes")
            assert (await closed(desk, turn)).outcome == "succeeded"
        roles = [item.record.record_role async for item in desk.turns.records(turn)]
    assert "answer_refused" in roles


async def test_what_only_looks_like_a_question_is_none(kernel: LocalKernel) -> None:
    """Records of the role may be anything; a reader leaves out what nobody could answer."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def pretend(turn: Turn) -> Any:
            looks: list[Any] = [None, 7, {"key": "a", "schema": 5}, {"key": 5, "schema": {}}, {"schema": {}}]
            for look in looks:
                await turn.record(look, role="question")
            return suspend("await_answer")

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await in_state(desk, turn, "suspended")
        assert await open_questions(desk, turn.project_id) == ()


async def test_questions_asked_at_once_take_one_answer_each(kernel: LocalKernel) -> None:
    """In any order, also where the worker was cut off before it had read the answer that came."""
    async with await kernel.agent("desk") as desk:

        async def ask_three(turn: Turn) -> Any:
            found: dict[str, int] = {}

            async def ask(key: str) -> None:
                found[key] = await turn.ask(int, f"{key}?", key=key)

            async with anyio.create_task_group() as tasks:
                for key in "abc":
                    tasks.start_soon(ask, key)
            return found

        async def open_keys() -> set[str]:
            return {question.key for question in await open_questions(desk, turn.project_id)}

        turn = await kernel.dispatch("desk", {})
        async with working(Worker(desk, ask_three, options=OPTIONS)):
            await in_state(desk, turn, "suspended")
        assert await open_keys() == {"a", "b", "c"}
        await answer_question(desk, turn, 1, key="b")
        cut_off = (await desk.claims.claim(desk.agent)).claimed  # type: ignore[arg-type]
        assert cut_off is not None
        await desk.turns.suspend(cut_off.claim, "worker_shutdown")
        assert await open_keys() == {"a", "c"}
        with pytest.raises(ConflictError, match="no open question 'b'"):
            await answer_question(desk, turn, 7, key="b")
        for key, value in (("c", 2), ("a", 3)):
            await answer_question(desk, turn, value, key=key)
            async with working(Worker(desk, ask_three, options=OPTIONS)):
                await in_state(desk, turn, "closed" if key == "a" else "suspended")
        assert (await desk.turns.get(turn)).final_payload == {"a": 3, "b": 1, "c": 2}
        answers = [each async for each in desk.turns.records(turn) if each.record.record_role == "answer"]
        assert len(answers) == 3
