"""`play()` with what a handler waits for: children, answers, steps."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from attrs import frozen

from cgworker import Turn, UsageError, fail, stop, suspend
from cgworker.testing import play


@frozen
class Approval:
    verdict: Literal["yes", "no"]


async def fan_out(turn: Turn) -> Any:
    found = await turn.once("search", lambda: ["a", "b"])
    wanted = {name: turn.child("expert", {"name": name}, kind="expert.v1") for name in found}
    results = await turn.children(wanted)
    return {name: [each.outcome, each.payload] for name, each in results.items()}


async def test_children_end_as_the_script_says() -> None:
    """By name: a payload, an outcome, or a function of the child's input; the handler begins again."""
    script = {"a": lambda asked: {"was": asked["name"]}, "b": fail({"error": "x"})}
    played = await play(fan_out, children=script)
    assert played.payload == {"a": ["succeeded", {"was": "a"}], "b": ["failed", {"error": "x"}]}
    assert played.entered_count == 2
    assert [(each.name, each.agent_id, each.kind) for each in played.children] == [
        ("a", "expert", "expert.v1"),
        ("b", "expert", "expert.v1"),
    ]


async def test_a_child_that_is_not_scripted_keeps_its_parent_waiting() -> None:
    """What was played is the suspension."""
    played = await play(fan_out, children={"a": 1})
    assert (played.suspended_reason, played.entered_count) == ("await_children", 1)


async def test_the_first_children_are_enough_where_the_handler_says_so() -> None:
    """In the order of the script."""

    async def race(turn: Turn) -> list[str]:
        wanted = {name: turn.child("runner", name) for name in ("slow", "quick", "asleep")}
        return list(await turn.children(wanted, first=1))

    assert (await play(race, children={"quick": stop()})).payload == ["quick"]
    assert (await play(race, children={"asleep": 1, "quick": 2})).payload == ["asleep"]


async def test_a_child_cannot_be_scripted_to_be_suspended() -> None:
    """Nobody would resume it."""
    with pytest.raises(UsageError, match="'a' is scripted to be suspended"):
        await play(fan_out, children={"a": suspend("later"), "b": 1})


async def approve(turn: Turn) -> str:
    answer = await turn.ask(Approval, {"title": "Deploy?"}, key="deploy")
    return answer.verdict


async def test_a_question_is_answered_as_the_script_says() -> None:
    """By its key; the answer may be an object."""
    played = await play(approve, answers={"deploy": Approval("yes")})
    assert (played.payload, played.entered_count) == ("yes", 2)
    [question] = played.questions
    assert (question.key, question.question) == ("deploy", {"title": "Deploy?"})
    assert question.schema["$defs"]["Approval"]["required"] == ["verdict"]


@pytest.mark.parametrize("answers", [{}, {"other": 1}, {"deploy": {"verdict": "maybe"}}])
async def test_without_an_answer_that_fits_the_turn_waits(answers: dict[str, Any]) -> None:
    """An answer that does not fit is kept as refused."""
    played = await play(approve, answers=answers)
    assert played.suspended_reason == "await_answer"
    assert ("answer_refused" in [record.role for record in played.records]) == ("deploy" in answers)


async def test_steps_of_an_earlier_attempt_are_not_done_again() -> None:
    """Given as records."""

    async def work(turn: Turn) -> int:
        return await turn.once("count", lambda: 1, returns=int)

    assert (await play(work)).payload == 1
    kept = [("step", {"key": "count", "value": 7})]
    assert (await play(work, records=kept, attempt=2)).payload == 7


async def test_a_fan_out_of_a_hundred_is_played_in_one_go() -> None:
    """Every child once, whatever begins again."""

    async def many(turn: Turn) -> int:
        wanted = {f"part {n}": turn.child("worker", n) for n in range(100)}
        return sum(each.payload for each in (await turn.children(wanted)).values())

    played = await play(many, children={f"part {n}": lambda n: n for n in range(100)})
    assert (played.payload, len(played.children)) == (sum(range(100)), 100)
