"""An agent of pydantic-ai as a handler: approvals, results from elsewhere, output, text and stops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.capabilities import RequestInput
from pydantic_ai.exceptions import CallDeferred
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel

from cgworker import AdapterHandler, QuestionDeclined, Turn, UsageError
from cgworker.adapters.pydantic_ai import PydanticAgent
from cgworker.adapters.pydantic_durability import CommonGroundDurability
from cgworker.testing import Played, play
from tests.adapters.killed import Script
from tests.adapters.pydantic_agent import results_in, scripted


@pytest.fixture
def anyio_backend() -> str:
    """pydantic-ai runs on asyncio."""
    return "asyncio"


def roles(played: Played, role: str) -> list[Any]:
    return [record.payload for record in played.records if record.role == role]


async def test_an_approval_is_a_question_that_shows_the_call(tmp_path: Path) -> None:
    """The turn is suspended; nothing is asked or done twice when it goes on."""
    script = Script(tmp_path)
    played = await play(AdapterHandler(scripted(script)))
    (question,) = played.questions
    assert (question.key, question.question) == ("approve:c3#1", {"tool": "pay", "arguments": {"sum": 7}})
    played = await play(AdapterHandler(scripted(Script(tmp_path))), answers={"approve:c3#1": True})
    assert played.payload == {"text": "done: a is 7; b is 7; 7 paid; "}
    assert roles(played, "usage")[0]["requests"] == 3


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (False, "It was refused."),
        (QuestionDeclined("approve:c3#1", "over the limit"), "over the limit"),
        (None, "Nobody approved it in time."),
    ],
    ids=["false", "declined", "too late"],
)
async def test_a_refusal_reaches_the_model(tmp_path: Path, answer: Any, told: str) -> None:
    """With the reason; the tool is not called."""
    answers = {} if answer is None else {"approve:c3#1": answer}
    played = await play(AdapterHandler(scripted(Script(tmp_path), question_seconds=60)), answers=answers)
    assert played.payload == {"text": f"done: a is 7; b is 7; {told}; "}
    assert "pay asked" not in Script(tmp_path).counts


async def test_the_text_is_published_in_few_records(tmp_path: Path) -> None:
    """As it comes, and not again when the handler starts again."""
    played = await play(AdapterHandler(scripted(Script(tmp_path))), answers={"approve:c3#1": True})
    assert [piece["text"] for piece in roles(played, "progress")] == ["done: a is 7; b is 7; 7 paid; "]


async def test_what_the_model_and_the_tools_said_is_in_no_record(tmp_path: Path) -> None:
    """But for the text that it published itself."""
    played = await play(AdapterHandler(scripted(Script(tmp_path))), answers={"approve:c3#1": True})
    steps = roles(played, "step")
    assert [set(step) for step in steps] == [{"key", "private"}] * len(steps)
    assert [step["key"] for step in steps] == [
        *("model#1", "tool:look:c1#1", "tool:look:c2#1", "model#2", "tool:pay:c3#1", "model#3")
    ]


# ---------------------------------------------------------------- other runs


def answering(*answers: ModelResponse) -> FunctionModel:
    """A model that gives these answers, one after the other."""

    async def think(messages: list[Any], _: Any) -> ModelResponse:
        return answers[sum(isinstance(message, ModelResponse) for message in messages)]

    return FunctionModel(think)


class Verdict(BaseModel):
    price: int
    fair: bool


async def test_structured_output_is_the_deliverable() -> None:
    """As JSON."""
    model = answering(ModelResponse([ToolCallPart("final_result", {"price": 7, "fair": True})]))
    agent = Agent(model, name="judge", output_type=Verdict)
    played = await play(AdapterHandler(PydanticAgent(agent, stream=False)), {"text": "judge it"})
    assert played.payload == {"price": 7, "fair": True}


async def test_a_tool_that_is_run_elsewhere_asks_for_its_result() -> None:
    """Any JSON value is one; a declined question is told to the model."""
    seen: list[Any] = []

    async def think(messages: list[Any], _: Any) -> ModelResponse:
        seen[:] = results_in(messages)
        called = any(isinstance(message, ModelResponse) for message in messages)
        return ModelResponse([TextPart("done") if called else ToolCallPart("survey", {}, tool_call_id="s")])

    agent = Agent(FunctionModel(think), name="asker")

    @agent.tool_plain
    def survey() -> str:
        raise CallDeferred

    handler = AdapterHandler(PydanticAgent(agent, stream=False))
    assert (await play(handler, "go")).questions[0].key == "result:s#1"
    await play(handler, "go", answers={"result:s#1": {"people": 3}})
    assert seen == [{"people": 3}]
    declined = {"result:s#1": QuestionDeclined("result:s#1", "nobody is there")}
    await play(handler, "go", answers=declined)
    assert "nobody is there" in str(seen)


async def test_a_wait_of_the_agents_own_is_a_question() -> None:
    """`RequestInput` waits as long as it says, and calls `ask` once; the model is told if nobody answers."""
    asked: list[str] = []
    model = answering(
        ModelResponse([ToolCallPart("pay", {"sum": 7}, tool_call_id="c")]), ModelResponse([TextPart("done")])
    )

    def ask(_ctx: Any, _requests: Any, token: str) -> None:
        asked.append(token)

    request = RequestInput[None](ask=ask, timeout=timedelta(seconds=60), name="payment")
    agent = Agent(model, name="payer", capabilities=[request])

    @agent.tool_plain(requires_approval=True)
    def pay(sum: int) -> str:
        asked.append(f"paid {sum}")
        return "paid"

    async def handle(turn: Turn) -> str:
        durability = CommonGroundDurability(turn, stream=False, answers_deferred=False)
        return (await agent.run("pay", capabilities=[durability])).output

    approved = {"wait:payment#1": {"approvals": {"c": True}, "calls": {}, "metadata": {}}}
    assert (await play(handle, answers=approved)).payload == "done"
    assert asked == ["wait:payment#1", "paid 7"]
    asked.clear()
    assert (await play(handle)).payload == "done"
    assert asked == ["wait:payment#1"]


async def test_a_stop_ends_a_model_request_at_once() -> None:
    """The request is cancelled, and the turn is stopped."""
    cancelled: list[bool] = []

    async def think(_messages: list[Any], _: Any) -> AsyncIterator[str]:
        yield "thinking"
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)

    agent = Agent(FunctionModel(stream_function=think), name="slow")
    played = await play(AdapterHandler(PydanticAgent(agent)), "go", stop_after=2)
    assert (type(played.outcome).__name__, cancelled) == ("Stopped", [True])


def test_an_agent_without_a_name_is_refused_before_the_first_claim() -> None:
    """Its name is in the names of its steps."""
    with pytest.raises(UsageError, match="the agent needs a name"):
        AdapterHandler(PydanticAgent(Agent(answering()))).check()
