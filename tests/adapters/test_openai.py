"""A model behind a chat endpoint as a handler: the `openai` package against a scripted endpoint."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import frozen

from cgworker import AdapterHandler, Failed, Stopped, Succeeded, Turn, UsageError, Worker
from cgworker.adapters.openai import ChatAdapter
from cgworker.adapters.tools import ChildTool, function_tool
from cgworker.testing import local_kernel, play
from tests.adapters.endpoint import After, Hang, Raw, Refuse, calls, endpoint, says
from tests.adapters.spans import spans_of

KEY = "local-key-0123456789"


@frozen
class City:
    """A place to look up."""

    name: str


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def at(base_url: str, **how: Any) -> AdapterHandler[Any]:
    return AdapterHandler(ChatAdapter(model="scripted", base_url=base_url, **how))


async def test_a_model_answers_a_turn_and_its_text_is_streamed() -> None:
    """The system's words go first; the key goes to the endpoint, and into no record."""
    with endpoint(says("Hel", "lo")) as model:
        played = await play(at(model.base_url, system="Be kind.", parameters={"temperature": 0}), "Hi")
    assert played.outcome == Succeeded({"text": "Hello"})
    assert model.requests[0]["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
    ]
    assert model.requests[0]["temperature"] == 0
    assert model.keys == [f"Bearer {KEY}"]
    streamed = [record.payload["text"] for record in played.records if record.role == "progress"]
    assert "".join(streamed) == "Hello"
    assert KEY not in repr(played)


@pytest.mark.parametrize(
    ("input", "asked"),
    [
        ({"text": "Hi"}, [{"role": "user", "content": "Hi"}]),
        ({"task": 1}, [{"role": "user", "content": '{"task":1}'}]),
        ({"messages": [{"role": "user", "content": "a"}]}, [{"role": "user", "content": "a"}]),
    ],
)
async def test_the_input_may_be_text_messages_or_anything(input: Any, asked: Any) -> None:
    """What is neither text nor messages is said as JSON."""
    with endpoint(says("ok")) as model:
        await play(at(model.base_url), input)
    assert model.requests[0]["messages"] == asked


async def test_an_answer_that_was_cut_says_so() -> None:
    """The reader must not take half an answer for a whole one."""
    with endpoint(says("Half", finish_reason="length")) as model:
        played = await play(at(model.base_url), "Hi")
    assert played.payload == {"text": "Half", "finish_reason": "length"}


async def weather(_: Turn, city: City) -> str:
    """Tells the weather."""
    return f"rain in {city.name}"


def breaks(_: Turn, city: City) -> str:
    raise LookupError(f"no {city.name}")


async def test_functions_are_offered_called_and_answered() -> None:
    """With what goes wrong as a result of its own, for the model to do something about."""
    tools = [function_tool(weather), function_tool(breaks)]
    asked = calls(("weather", {"name": "Bern"}), ("weather", {}), ("breaks", {"name": "X"}), ("no", {}))
    with endpoint([*asked], calls(("weather", "no json")), says("Rain.")) as model:
        played = await play(at(model.base_url, tools=tools), "Weather?")
    assert played.outcome == Succeeded({"text": "Rain."})
    offered = model.requests[0]["tools"][0]["function"]
    assert (offered["name"], offered["description"]) == ("weather", "Tells the weather.")
    assert offered["parameters"]["required"] == ["name"]
    results = [each["content"] for each in model.requests[1]["messages"] if each["role"] == "tool"]
    assert results[0] == "rain in Bern"
    assert json.loads(results[1])["error"] == "invalid_arguments"
    assert json.loads(results[2]) == {"error": "LookupError: no X"}
    assert json.loads(results[3]) == {"error": "no such tool"}
    assert json.loads(model.requests[2]["messages"][-1]["content"])["error"] == "arguments are no JSON object"


async def test_what_the_model_and_the_functions_said_is_private() -> None:
    """The records of their steps have no values; the text of an answer is published by itself."""
    with endpoint(calls(("weather", {"name": "Bern"})), says("Done.")) as model:
        played = await play(at(model.base_url, tools=[function_tool(weather)]), "Weather?")
    steps = [record.payload for record in played.records if record.role == "step"]
    assert [step["key"] for step in steps] == ["model:0", "tool:0:0:weather", "model:1"]
    assert all(step.keys() == {"key", "private"} for step in steps)


async def test_a_child_turn_may_be_a_tool_and_nothing_is_asked_twice() -> None:
    """The turn is suspended meanwhile; the handler begins again and finds the conversation."""
    called: list[str] = []

    async def note(_: Turn, city: City) -> str:
        called.append(city.name)
        return "noted"

    tools = [
        function_tool(note, name="note"),
        ChildTool(name="expert", description="Knows.", agent_id="expert"),
    ]
    asked = calls(("note", {"name": "Bern"}), ("expert", {"q": 1}))
    with endpoint(asked, says("Done.")) as model:
        handler = at(model.base_url, tools=tools)
        async with local_kernel() as kernel:
            desk, expert = await kernel.agent("desk"), await kernel.agent("expert")
            turn = await kernel.dispatch("desk", {"text": "Go"})

            async def know(_: Turn, question: Any) -> Any:
                return {"answer": question["q"] + 1}

            async with anyio.create_task_group() as working:
                working.start_soon(Worker(desk, handler).run)
                working.start_soon(Worker(expert, know).run)
                closed = await kernel.closed(turn)
                working.cancel_scope.cancel()
    assert (closed.outcome, closed.final_payload) == ("succeeded", {"text": "Done."})
    assert called == ["Bern"]
    assert len(model.requests) == 2
    results = [each["content"] for each in model.requests[1]["messages"] if each["role"] == "tool"]
    assert results[0] == "noted"
    assert json.loads(results[1]) == {"outcome": "succeeded", "payload": {"answer": 2}}


async def test_what_the_turn_is_told_goes_to_the_model_before_its_next_round() -> None:
    """A handler that begins again tells the model each message in the same place."""
    started, release = anyio.Event(), anyio.Event()

    async def slow(_: Turn, city: City) -> str:
        started.set()
        await release.wait()
        return city.name

    children = [ChildTool(name="expert", description="Knows.", agent_id="expert")]
    asked = [calls(("slow", {"name": "Bern"})), calls(("expert", {"q": 1})), says("Done.")]
    with endpoint(*asked) as model:
        handler = at(model.base_url, tools=[function_tool(slow, name="slow"), *children])
        async with local_kernel() as kernel:
            desk, expert = await kernel.agent("desk"), await kernel.agent("expert")
            requester = await kernel.agent("requester")
            turn = await kernel.dispatch("desk", {"text": "Go"})
            await requester.turns.tell(turn, {"text": "be brief"})

            async def know(_: Turn) -> str:
                await requester.turns.tell(turn, {"n": 1})
                return "known"

            async with anyio.create_task_group() as beside:
                beside.start_soon(Worker(desk, handler).run)
                await started.wait()
                await requester.turns.tell(turn, "use the other file")
                release.set()
                beside.start_soon(Worker(expert, know).run)
                assert (await kernel.closed(turn)).final_payload == {"text": "Done."}
                beside.cancel_scope.cancel()
    said = [[each["role"], each.get("content")] for each in model.requests[-1]["messages"]]
    assert [content for role, content in said if role == "user"] == [
        "Go",
        "be brief",
        "use the other file",
        '{"n":1}',
    ]
    assert [role for role, _ in said] == [
        "user",
        "user",
        "assistant",
        "tool",
        "user",
        "assistant",
        "tool",
        "user",
    ]
    assert len(model.requests) == 3  # nothing was asked again after the suspension


async def test_a_message_during_the_last_answer_is_answered_too() -> None:
    """A turn is not closed over what it was told meanwhile."""
    told = threading.Event()
    with endpoint(After(told, says("Plan A.")), says("Plan B.")) as model:
        async with local_kernel() as kernel:
            desk, requester = await kernel.agent("desk"), await kernel.agent("requester")
            turn = await kernel.dispatch("desk", {"text": "Plan?"})
            async with anyio.create_task_group() as beside:
                beside.start_soon(Worker(desk, at(model.base_url)).run)
                while not model.requests:  # noqa: ASYNC110  # it is asked in a thread
                    await anyio.sleep(0.01)
                await requester.turns.tell(turn, "no, another one")
                told.set()
                assert (await kernel.closed(turn)).final_payload == {"text": "Plan B."}
                beside.cancel_scope.cancel()
    assert model.requests[1]["messages"][1:] == [
        {"role": "assistant", "content": "Plan A."},
        {"role": "user", "content": "no, another one"},
    ]


async def test_a_model_that_never_ends_is_ended() -> None:
    """After so many rounds the turn fails, with a name for it."""
    with endpoint(*[calls(("weather", {"name": "Bern"}))] * 2) as model:
        played = await play(at(model.base_url, tools=[function_tool(weather)], max_rounds=2), "Weather?")
    assert played.outcome == Failed({"error": "too_many_rounds", "rounds": 2})


async def test_an_overloaded_endpoint_is_asked_again_when_it_says() -> None:
    """Retry-After is followed."""
    with endpoint(Refuse(429, {"Retry-After": "0.01"}), Refuse(503), says("ok")) as model:
        played = await play(at(model.base_url), "Hi")
    assert played.outcome == Succeeded({"text": "ok"})


async def test_a_refusal_is_a_typed_failure_without_the_key() -> None:
    """Also where the endpoint repeats it."""
    with endpoint(Refuse(401, message=f"bad key {KEY}")) as model:
        outcome = (await play(at(model.base_url), "Hi")).outcome
    assert isinstance(outcome, Failed)
    assert outcome.payload["type"] == "EndpointFailed"
    assert "AuthenticationError" in outcome.payload["message"]
    assert KEY not in outcome.payload["message"]


async def test_a_stream_that_breaks_off_is_no_answer() -> None:
    """Half a text without an end is not delivered."""
    with endpoint([{"delta": {"content": "Hal"}}]) as model:
        outcome = (await play(at(model.base_url), "Hi")).outcome
    assert isinstance(outcome, Failed)
    assert "ended in the middle" in outcome.payload["message"]


def piece(*choices: Any, **more: Any) -> str:
    """A piece of a stream."""
    about = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return f"data: {json.dumps({**about, **({'choices': choices} if choices else {}), **more})}\n\n"


async def test_usage_that_the_endpoint_tells_is_a_record_and_in_the_spans() -> None:
    """It is no part of the conversation: endpoints may refuse a message with it."""

    async def square(_turn: Turn, _input: dict[str, Any]) -> int:
        """Square."""
        return 49

    told = piece(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11})
    asked = {"index": 0, "id": "c", "function": {"name": "square", "arguments": "{}"}}
    call = piece({"index": 0, "delta": {"tool_calls": [asked]}, "finish_reason": "tool_calls"})
    with endpoint(Raw(call + told), Raw(HALF + told + END)) as model:
        handler = at(model.base_url, tools=[function_tool(square)])
        played = await play(handler, "Hi")
        assert model.requests[1]["messages"][1].keys() == {"role", "content", "tool_calls"}
    usage = [record.payload for record in played.records if record.role == "usage"]
    assert usage == [{"requests": 2, "input_tokens": 18, "output_tokens": 4}]
    with endpoint(Raw(call), Raw(HALF + told + END)) as model:
        spans = await spans_of(at(model.base_url, tools=[function_tool(square)]), input="Hi")
    names = {"invoke_agent chat", "chat scripted", "execute_tool square"}
    assert names < spans.keys()
    assert (spans["chat scripted"].attributes or {})["gen_ai.usage.input_tokens"] == 9


HALF = piece({"index": 0, "delta": {"content": "Hal"}, "finish_reason": None})
END = piece({"index": 0, "delta": {}, "finish_reason": "stop"}) + "data: [DONE]\n\n"


@pytest.mark.parametrize(
    "odd",
    [
        piece(),
        piece(usage={"total_tokens": 2}, choices=[]),
        piece({"index": 0, "finish_reason": None}),
        piece({"index": 0, "delta": None, "finish_reason": None}),
        piece({"index": 1, "delta": {"content": "another choice"}, "finish_reason": "stop"}),
        "data: {}\n\n",
        ": nothing but a comment\n\n",
    ],
)
async def test_a_piece_without_anything_for_us_is_passed_over(odd: str) -> None:
    """Usage, keep-alive lines, choices without a delta, choices that nobody asked for."""
    with endpoint(Raw(HALF + odd + END)) as model:
        played = await play(at(model.base_url), "Hi")
    assert played.outcome == Succeeded({"text": "Hal"})


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        (f'data: {{"error": {{"message": "overloaded {KEY}", "code": 503}}}}\n\n', "overloaded"),
        (f'event: error\ndata: {{"message": "overloaded {KEY}"}}\n\n', "overloaded"),
        ('data: {"detail": [{"msg": "too long"}]}\n\n', "too long"),
        ('error: {"code": 500}\n\n', "ended in the middle"),
        ("data: no json\n\n", "broke off"),
        (piece(5), "no piece of an answer"),
        (piece({"index": 0, "delta": {"tool_calls": [5]}, "finish_reason": None}), "no piece of an answer"),
        (piece({"index": 0, "delta": {"content": 5}, "finish_reason": "stop"}), "no piece of an answer"),
    ],
)
async def test_what_goes_wrong_in_a_stream_is_the_endpoints_failure(odd: str, told: str) -> None:
    """With its own words, and without the key."""
    with endpoint(Raw(HALF + odd)) as model:
        outcome = (await play(at(model.base_url), "Hi")).outcome
    assert isinstance(outcome, Failed)
    assert outcome.payload["type"] == "EndpointFailed"
    assert told in outcome.payload["message"]
    assert KEY not in outcome.payload["message"]


async def test_a_model_that_refuses_to_answer_has_not_answered() -> None:
    """Its words are the failure's."""
    refuses = [
        {"delta": {"refusal": "I can"}},
        {"delta": {"refusal": "not."}},
        {"delta": {}, "finish_reason": "stop"},
    ]
    with endpoint(refuses) as model:
        outcome = (await play(at(model.base_url), "Hi")).outcome
    assert outcome == Failed({"error": "model_refused", "refusal": "I cannot."})


async def test_a_call_is_known_by_its_id() -> None:
    """Some endpoints send all calls with one index, some send no ids at all."""

    def call(**of: Any) -> dict[str, Any]:
        return {"delta": {"tool_calls": [of]}}

    in_one_place = [
        call(index=0, id="a", function={"name": "weather", "arguments": '{"name": '}),
        call(index=0, id="a", function={"arguments": '"Bern"}'}),
        call(index=0, id="b", function={"name": "weather", "arguments": '{"name": "Rome"}'}),
        {"delta": {}, "finish_reason": "tool_calls"},
    ]
    nameless = [
        call(index=0, function={"name": "weather", "arguments": '{"name": "Oslo"}'}),
        {"delta": {}, "finish_reason": "tool_calls"},
    ]
    with endpoint(in_one_place, nameless, says("ok")) as model:
        played = await play(at(model.base_url, tools=[function_tool(weather)]), "Weather?")
    assert played.payload == {"text": "ok"}
    told = [each for each in model.requests[2]["messages"] if each["role"] == "tool"]
    assert [each["content"] for each in told] == ["rain in Bern", "rain in Rome", "rain in Oslo"]
    assert [each["tool_call_id"] for each in told] == ["a", "b", "call-0"]


async def test_a_character_in_two_halves_is_one() -> None:
    """And half a character is none: neither of them breaks the turn."""
    halves = piece({"index": 0, "delta": {"content": "\ud83d"}, "finish_reason": None}) + piece(
        {"index": 0, "delta": {"content": "\ude00 \ud83d"}, "finish_reason": None}
    )
    with endpoint(Raw(halves + END)) as model:
        played = await play(at(model.base_url), "Hi")
    assert played.payload == {"text": "😀 \ufffd"}


@pytest.mark.parametrize(("wished", "count"), [("120", 2), ("121", 1), ("1e999", 1)])
async def test_a_wish_to_be_left_alone_is_followed_up_to_two_minutes(
    wished: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a longer one the endpoint is not asked again; the failure says how long it would have been."""
    slept: list[float] = []
    really_sleep = anyio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await really_sleep(min(seconds, 0.5))

    monkeypatch.setattr("anyio.sleep", sleep)
    with endpoint(Refuse(429, {"Retry-After": wished}), says("ok")) as model:
        outcome = (await play(at(model.base_url), "Hi")).outcome
    assert len(model.requests) == count
    if count == 2:
        assert max(slept) == 120
    else:
        assert isinstance(outcome, Failed)
        assert f"(Retry-After: {wished})" in outcome.payload["message"]


async def test_a_stop_ends_the_stream_and_what_was_said_is_kept() -> None:
    """Nobody waits for the model to finish."""
    with endpoint(Hang("So far")) as model:
        played = await play(at(model.base_url), "Hi", stop_after=0.5)
    assert isinstance(played.outcome, Stopped)
    assert [record.payload["text"] for record in played.records] == ["So far"]


async def test_the_key_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where it is missing, the worker says so before it claims."""
    file = tmp_path / "key"
    file.write_text("from-a-file\n")
    file.chmod(0o600)
    with endpoint(says("ok")) as model:
        await play(at(model.base_url, api_key_file=file), "Hi")
    assert model.keys == ["Bearer from-a-file"]
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UsageError, match="set OPENAI_API_KEY"):
        await play(at("http://127.0.0.1:9/v1"), "Hi")
    with pytest.raises(UsageError, match="cannot be read"):
        await play(at("http://127.0.0.1:9/v1", api_key_file=tmp_path / "none"), "Hi")


@pytest.mark.parametrize(
    ("mode", "text", "said"), [(0o640, "key", "must be 0600"), (0o600, " \n", "is empty")]
)
async def test_a_key_that_others_may_read_or_that_is_none_is_refused(
    tmp_path: Path, mode: int, text: str, said: str
) -> None:
    """Before the worker claims."""
    file = tmp_path / "key"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(UsageError, match=said):
        at("http://127.0.0.1:9/v1", api_key_file=file).check()
