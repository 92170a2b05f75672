"""The shared piece of the harnesses: steps, approvals, usage and spans."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

from cgworker import QuestionDeclined, Turn
from cgworker.adapters.harness import Harness, Tokens, Verdict
from cgworker.testing import Played, play
from tests.adapters.spans import spans_of

SECRET = "the customer's own words"


def tokens_of(answer: Any) -> Tokens:
    return Tokens(answer["in"], answer["out"])


class Agent:
    """A small agent: a model request, two tools at once, approvals, and another model request."""

    def __init__(self, question_seconds: float | None = None) -> None:
        self.calls: list[str] = []
        self.question_seconds = question_seconds

    async def answer(self, turn: Turn) -> Any:
        harness = Harness(turn, agent="payer", provider="scripted", question_seconds=self.question_seconds)
        async with harness.running():
            first = await harness.model(lambda: self.think("one"), name="m-1", tokens_of=tokens_of)
            results: dict[str, Any] = {}

            async def call(name: str) -> None:
                results[name] = await harness.tool("look", lambda: self.look(name), call_id=name)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call, "a")
                tasks.start_soon(call, "b")
            verdicts = await harness.approve({"pay:a": {"tool": "pay", "sum": 7}, "pay:b": "pay b"})
            second = await harness.model(lambda: self.think("two"), tokens_of=tokens_of)
        return [first["said"], results, [verdicts[key] for key in ("pay:a", "pay:b")], second["said"]]

    def think(self, word: str) -> dict[str, Any]:
        self.calls.append(word)
        return {"said": word, "private": SECRET, "in": 10, "out": 3}

    async def look(self, name: str) -> str:
        self.calls.append(name)
        return f"{name} is 7"


def roles(played: Played, role: str) -> list[Any]:
    return [record.payload for record in played.records if record.role == role]


async def test_what_was_answered_before_is_not_asked_again() -> None:
    """The handler begins again after each answer; the model and the tools were called once each."""
    agent = Agent()
    played = await play(agent.answer, answers={"pay:a": True, "pay:b": False})
    assert sorted(agent.calls) == ["a", "b", "one", "two"]
    assert played.entered_count > 1
    verdicts = [{"granted": True, "reason": None}, {"granted": False, "reason": "It was refused."}]
    assert played.payload == ["one", {"a": "a is 7", "b": "b is 7"}, verdicts, "two"]
    keys = [step["key"] for step in roles(played, "step")]
    assert sorted(keys) == ["model#1", "model#2", "tool:look:a#1", "tool:look:b#1"]
    assert SECRET not in str(played.records)


async def test_approvals_are_asked_for_at_once() -> None:
    """In one suspension, which shows both."""
    played = await play(Agent().answer)
    assert played.suspended_reason == "await_answer"
    assert {question.key: question.question for question in played.questions} == {
        "pay:a": {"tool": "pay", "sum": 7},
        "pay:b": "pay b",
    }


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"pay:b": QuestionDeclined("pay:b", "over the limit")}, "over the limit"),
        ({}, "Nobody approved it in time."),
    ],
    ids=["declined", "too late"],
)
async def test_a_refusal_has_a_reason_for_the_model(answers: dict[str, Any], reason: str) -> None:
    """The words of the one who declined it; or that nobody answered."""
    played = await play(Agent(question_seconds=60).answer, answers={"pay:a": True, **answers})
    assert played.payload[2][1] == {"granted": False, "reason": reason}


async def test_the_usage_of_all_attempts_is_one_record() -> None:
    """Also of requests that an earlier attempt made."""
    played = await play(Agent().answer, answers={"pay:a": True, "pay:b": True})
    assert roles(played, "usage") == [{"requests": 2, "input_tokens": 20, "output_tokens": 6}]


async def test_calls_that_a_model_gives_one_id_are_two_steps() -> None:
    """Some models number the calls of each answer anew."""

    async def answer(turn: Turn) -> list[int]:
        harness = Harness(turn, agent="a")
        return [await harness.tool("count", partial(int, number), call_id="call_0") for number in (1, 2)]

    assert (await play(answer)).payload == [1, 2]


async def test_what_was_kept_under_a_name_is_read_in_order_and_added_to() -> None:
    """As the entries of a session are."""
    runs: list[list[Any]] = []

    async def answer(turn: Turn) -> Any:
        harness = Harness(turn, agent="a")
        runs.append(await harness.kept("entry"))
        await harness.keep("entry", lambda: len(runs) * 10)
        await harness.ask(bool, "Go on?", key=f"on:{len(runs)}" if len(runs) < 3 else "on:2")
        return await harness.kept("entry")

    await play(answer, answers={"on:1": True, "on:2": True})
    assert runs[:2] == [[], [10]]


# ---------------------------------------------------------------- spans


async def test_the_spans_are_those_of_generative_ai() -> None:
    """Under the turn's span: the agent, its model requests and its tools, with their usage."""
    spans = await spans_of(Agent().answer)
    agent, chat, tool = spans["invoke_agent payer"], spans["chat m-1"], spans["execute_tool look"]
    for span in (agent, chat, tool):
        assert span.attributes is not None
        assert span.attributes["gen_ai.conversation.id"] == "play/T-1"
        assert span.attributes["gen_ai.provider.name"] == "scripted"
        assert span.attributes["gen_ai.operation.name"] == span.name.split()[0]
    assert {**(chat.attributes or {})} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.conversation.id": "play/T-1",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "m-1",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 3,
    }
    assert (agent.attributes or {})["gen_ai.usage.input_tokens"] == 10  # it was suspended after one request
    assert (tool.attributes or {})["gen_ai.tool.name"] == "look"
    assert chat.parent == agent.context
    assert all(SECRET not in str(span.attributes) for span in spans.values())


async def test_a_span_says_what_class_a_tool_raised_and_nothing_of_its_text() -> None:
    """As the span of the turn does."""

    async def answer(turn: Turn) -> None:
        harness = Harness(turn, agent="a")
        async with harness.running():
            await harness.tool("broken", _raise)

    span = (await spans_of(answer))["execute_tool broken"]
    assert (span.attributes or {})["error.type"] == "ValueError"
    assert SECRET not in str(span.to_json())


def _raise() -> None:
    raise ValueError(SECRET)


async def test_a_worker_that_is_not_instrumented_makes_no_spans() -> None:
    """And needs no OpenTelemetry."""
    played = await play(Agent().answer, answers={"pay:a": True, "pay:b": True})
    assert Verdict(True) == Verdict(**played.payload[2][0])
