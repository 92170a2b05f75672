"""`play()` with what a handler waits for: children, answers, steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import anyio
import pytest
from attrs import frozen

from cgworker import AnswerTimeout, Stopped, Suspended, Turn, UsageError, fail, stop, suspend
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


async def ask_three(turn: Turn) -> dict[str, int]:
    found: dict[str, int] = {}

    async def ask(key: str) -> None:
        found[key] = await turn.ask(int, f"{key}?", key=key)

    async with anyio.create_task_group() as tasks:
        for key in "abc":
            tasks.start_soon(ask, key)
    return dict(sorted(found.items()))


@pytest.mark.parametrize("keys", ["abc", "cba", "bac"])
async def test_questions_asked_at_once_are_each_answered_once(keys: str) -> None:
    """Whatever the order of the answers: all are asked before the turn waits, and none is asked twice."""
    played = await play(ask_three, answers={key: ord(key) for key in keys})
    assert played.payload == {"a": 97, "b": 98, "c": 99}
    assert sorted(question.key for question in played.questions) == ["a", "b", "c"]
    assert sorted(record.payload["key"] for record in played.records if record.role == "answer") == [*"abc"]
    assert played.entered_count == 4


async def test_of_questions_asked_at_once_one_may_stay_open() -> None:
    """The turn waits for that one, and says for which."""
    played = await play(ask_three, answers={"c": 3, "a": 1})
    assert isinstance(played.outcome, Suspended)
    assert played.outcome.annotations == {"await_answer": {"key": "b"}}
    unanswered = await play(ask_three)
    assert isinstance(unanswered.outcome, Suspended)
    waiting = unanswered.outcome.annotations["await_answer"]
    assert sorted(waiting["keys"]) == ["a", "b", "c"]
    assert waiting["key"] == waiting["keys"][0]


async def test_the_same_question_in_two_tasks_is_one() -> None:
    """It is asked once, and both get the answer."""

    async def ask_twice(turn: Turn) -> list[int]:
        found: list[int] = []

        async def ask() -> None:
            found.append(await turn.ask(int, "?", key="same"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            tasks.start_soon(ask)
        return found

    played = await play(ask_twice, answers={"same": 1})
    assert (played.payload, len(played.questions)) == ([1, 1], 1)


async def test_a_handler_that_catches_everything_still_waits_for_its_answer() -> None:
    """As at a kernel: what put the turn aside stands."""

    async def careless(turn: Turn) -> str:
        try:
            return f"got {await turn.ask(int, '?', key='a')}"
        except BaseException:
            return "caught"

    assert (await play(careless)).suspended_reason == "await_answer"
    assert (await play(careless, answers={"a": 1})).payload == "got 1"


async def test_what_is_played_is_json_as_a_kernel_would_give_it() -> None:
    """Input, records, children's results and the payload."""

    @dataclass
    class Item:
        _cost: int

    async def relay(turn: Turn) -> Any:
        await turn.record({"item": Item(1)})
        results = await turn.children({"a": turn.child("x", {"item": Item(2)}), "b": turn.child("x", 1)})
        return {"was": turn.input, "item": Item(3), "pair": (1, 2), "got": [results[n].payload for n in "ab"]}

    played = await play(relay, {"item": Item(0)}, children={"a": [Item(4)], "b": None})
    assert played.payload == {
        "was": {"item": {"_cost": 0}},
        "item": {"_cost": 3},
        "pair": [1, 2],
        "got": [[{"_cost": 4}], None],
    }
    assert played.records[0].payload == {"item": {"_cost": 1}}
    assert played.children[0].input == {"item": {"_cost": 2}}


async def listen(turn: Turn) -> list[Any]:
    """Reads up to the message "end"."""
    found = []
    async for message in turn.messages():
        found.append(message.content)
        if message.content == "end":
            break
    return found


async def test_a_turn_is_told_what_the_script_says() -> None:
    """In order, to each run of the handler; values may be objects."""
    assert (await play(listen, messages=[Approval("yes"), "end"])).payload == [{"verdict": "yes"}, "end"]

    async def listen_twice(turn: Turn) -> Any:
        read = await listen(turn)
        return [read, await turn.ask(int, "How many?", key="n")]

    assert (await play(listen_twice, messages=["end"], answers={"n": 1})).payload == [["end"], 1]


async def test_a_wait_for_a_message_that_is_not_scripted_is_an_error() -> None:
    """The test is told so in place of hanging; a handler that is interrupted meanwhile may wait."""
    played = await play(listen, messages=["begin"])
    assert isinstance(played.error, UsageError)
    assert "one more message than it is told" in str(played.error)
    assert isinstance((await play(listen, messages=["begin"], stop_after=0.1)).outcome, Stopped)


# ---------------------------------------------------------------- time


async def test_sleeps_and_time_limits_take_no_time() -> None:
    """The kernel's clock goes on at once, and the handler begins again as it would then."""

    async def handle(turn: Turn) -> Any:
        await turn.sleep(30 * 86_400, key="month")
        try:
            return await turn.ask(bool, "Ship it?", key="ship", timeout_seconds=86_400)
        except AnswerTimeout:
            return "nobody answered"

    played = await play(handle, {})
    assert played.payload == "nobody answered"
    assert played.entered_count == 3
    assert (await play(handle, {}, answers={"ship": True})).payload is True
