"""`play()` with several questions at once, declined ones, and keys of steps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cgworker import (
    AnswerTimeout,
    Question,
    QuestionDeclined,
    Retries,
    Turn,
    UsageError,
    WorkerOptions,
    retry,
)
from cgworker.testing import play

REVIEW = {name: Question(bool, f"Does {name} agree?") for name in ("a", "b", "c")}


async def review(turn: Turn) -> dict[str, Any]:
    return await turn.ask_all(REVIEW)


async def review_until_two(turn: Turn) -> dict[str, Any]:
    return await turn.ask_all(REVIEW, first=2)


async def test_several_questions_are_asked_in_one_suspension() -> None:
    """All of them at once; the handler begins again after each answer, and has them all at the end."""
    assert (await play(review)).outcome.annotations["await_answer"] == {  # type: ignore[union-attr]
        "key": "a",
        "keys": ["a", "b", "c"],
    }
    played = await play(review, answers={"b": False, "a": True, "c": True})
    assert played.payload == {"a": True, "b": False, "c": True}
    assert (len(played.questions), played.entered_count) == (3, 4)


async def test_the_first_answers_are_enough_where_the_handler_says_so() -> None:
    """Those that came first, also when it begins again later and has more."""

    async def review_and_ask(turn: Turn) -> Any:
        first = await turn.ask_all(REVIEW, first=1)
        return [first, await turn.ask(int, "How many?", key="n")]

    assert (await play(review_until_two, answers={"a": True, "c": False})).payload == {"a": True, "c": False}
    played = await play(review_and_ask, answers={"c": True, "n": 1})
    assert played.payload == [{"c": True}, 1]


async def test_a_question_is_declined_with_its_reason() -> None:
    """An exception of the handler's, which may do without an answer; later attempts are told the same."""

    async def ask(turn: Turn) -> Any:
        try:
            answer: Any = await turn.ask(int, "How many?", key="n")
        except QuestionDeclined as declined:
            answer = [declined.key, declined.reason]
        return [answer, await turn.ask(int, "And then?", key="m")]

    played = await play(ask, answers={"n": QuestionDeclined("n", "ask my boss"), "m": 2})
    assert played.payload == [["n", "ask my boss"], 2]


async def test_a_declined_question_fails_a_handler_that_does_not_expect_it() -> None:
    """Without retries: an answer would be no other in the next one."""

    async def ask(turn: Turn) -> Any:
        return await turn.ask(int, "How many?", key="n")

    played = await play(
        ask, answers={"n": QuestionDeclined("n")}, options=WorkerOptions(retries=Retries(first_seconds=0))
    )
    assert played.payload["retries"] == 0
    assert played.payload["last"]["message"] == "the question 'n' was declined"


async def test_enough_answers_make_up_for_a_declined_question() -> None:
    """Only when there cannot be enough any more is it an exception."""
    no = QuestionDeclined("b", "no time")
    assert (await play(review_until_two, answers={"b": no, "a": True, "c": True})).payload == {
        "a": True,
        "c": True,
    }
    assert isinstance((await play(review, answers={"b": no})).error, QuestionDeclined)


async def test_a_question_among_several_has_its_own_time() -> None:
    """One of no time at all is over at once, the others are waited for."""

    async def ask(turn: Turn) -> Any:
        late = {"late": Question(int, "?", timeout_seconds=0), "other": Question(int, "?")}
        return await turn.ask_all(late, first=1)

    assert (await play(ask, answers={"other": 1})).payload == {"other": 1}

    async def ask_both(turn: Turn) -> Any:
        return await turn.ask_all(
            {"late": Question(int, "?", timeout_seconds=0), "other": Question(int, "?")}
        )

    assert isinstance((await play(ask_both)).error, AnswerTimeout)


async def test_what_ended_a_wait_for_several_is_the_same_in_each_attempt() -> None:
    """The first that ended, also when it begins again later and another one's time is over."""

    async def ask_and_sleep(turn: Turn) -> Any:
        try:
            await turn.ask_all({"a": Question(int, "?", timeout_seconds=60), "b": Question(int, "?")})
        except (QuestionDeclined, AnswerTimeout) as ended:
            await turn.sleep(120, key="a while")
            return str(ended)

    played = await play(ask_and_sleep, answers={"b": QuestionDeclined("b", "no time")})
    assert played.payload == str(QuestionDeclined("b", "no time"))


@pytest.mark.parametrize("first", [0, 4, -1])
async def test_so_many_answers_as_there_are_questions_can_be_waited_for(first: int) -> None:
    """More, or none, is a fault of the handler."""

    async def ask(turn: Turn) -> Any:
        return await turn.ask_all(REVIEW, first=first)

    assert isinstance((await play(ask)).error, UsageError)


async def test_no_questions_have_no_answers() -> None:
    """Nothing is waited for."""

    async def ask(turn: Turn) -> Any:
        return await turn.ask_all({})

    assert (await play(ask)).payload == {}


async def test_step_keys_count_in_each_run() -> None:
    """The same steps have the same keys when the handler begins again."""

    async def work(turn: Turn) -> Any:
        keys = [turn.step_key("model"), turn.step_key("tool"), turn.step_key("model")]
        return [keys, await turn.ask(int, "?", key="n")]

    played = await play(work, answers={"n": 1})
    assert played.payload == [["model#1", "tool#1", "model#2"], 1]


NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)


async def test_sleeps_and_time_limits_take_no_time() -> None:
    """The kernel's clock moves instead; the handler begins again after each."""

    async def wait(turn: Turn) -> Any:
        await turn.sleep(86_400, key="day")
        try:
            return await turn.ask(bool, "Well?", key="well", timeout_seconds=3600)
        except AnswerTimeout:
            last = (await turn.records("answer_timeout"))[-1].record.created_at
            return [turn.snapshot.created_at.isoformat(), (last - NOON).total_seconds() // 3600]

    played = await play(wait, now=NOON)
    assert played.payload == [NOON.isoformat(), 25]
    assert played.entered_count == 3
    assert (await play(wait, answers={"well": True})).payload is True


async def test_a_handlers_own_retry_ends_the_play() -> None:
    """What is played is that it asked for one."""

    async def again(_: Turn) -> Any:
        return retry(60)

    played = await play(again)
    assert (played.suspended_reason, played.entered_count) == ("worker_retry", 1)
