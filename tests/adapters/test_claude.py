"""Claude Code as a handler: approvals, refusals, several calls, sessions elsewhere, text and usage."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from cgworker import (
    AdapterHandler,
    Failed,
    QuestionDeclined,
    Turn,
    UsageError,
    Worker,
    WorkerOptions,
    answer_question,
)
from cgworker.adapters.harness import Harness
from cgworker.testing import LocalKernel, Played, play
from tests.adapters.claude_endpoint import call, endpoint, options, payments, text
from tests.adapters.spans import spans_of
from tests.journeys.conftest import closed, in_state, working
from tests.kernels import NewProject

sdk = pytest.importorskip("claude_agent_sdk", reason="no claude-agent-sdk: pip install 'cgworker[claude]'")

from claude_agent_sdk.testing import run_session_store_conformance  # noqa: E402

from cgworker.adapters.claude import ClaudeAgent  # noqa: E402
from cgworker.adapters.claude_run import find_cli  # noqa: E402
from cgworker.adapters.claude_session import TurnSessions  # noqa: E402

needs_cli = pytest.mark.skipif(
    find_cli(sdk.ClaudeAgentOptions()) is None, reason="no Claude Code: this wheel of the package has none"
)
PAY = "mcp__bank__pay"
OPTIONS = WorkerOptions(concurrency=1, wait_seconds=5)


@pytest.fixture
def anyio_backend() -> str:
    """The package runs on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _own_private_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("CLAUDECODE", raising=False)


@pytest.fixture
async def kernel(new_project: NewProject) -> AsyncIterator[LocalKernel]:
    async with new_project(lease_seconds=30) as kernel:
        yield kernel


def roles(played: Played, role: str) -> list[Any]:
    """The payloads of the records of a role."""
    return [record.payload for record in played.records if record.role == role]


def one_payment(results: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Pay once, and say what came of it."""
    return [text("Done.")] if results else [text("I pay."), call("toolu_1", PAY, sum=7)]


@needs_cli
async def test_text_tools_and_usage_are_told(tmp_path: Path) -> None:
    """The deliverable is the last message; what was said and done is public, but not the arguments."""
    with endpoint(one_payment) as model:
        played = await play(AdapterHandler(ClaudeAgent(options(model.url, tmp_path))), {"text": "pay 7"})
    assert played.payload == {"text": "Done."}
    assert payments(tmp_path) == [7]
    assert roles(played, "progress") == [
        {"text": "I pay.", "index": 0},
        {"tool": PAY, "state": "started"},
        {"tool": PAY, "state": "completed"},
        {"text": "Done.", "index": 1},
    ]
    assert roles(played, "usage") == [{"requests": 2, "input_tokens": 20, "output_tokens": 10}]


@needs_cli
async def test_a_session_is_in_no_record(tmp_path: Path) -> None:
    """Only digests of it."""
    with endpoint(one_payment) as model:
        played = await play(AdapterHandler(ClaudeAgent(options(model.url, tmp_path))), {"text": "pay 7"})
    steps = roles(played, "step")
    assert {step["key"].partition("#")[0] for step in steps} == {"session", "tool"}
    assert all(set(step) == {"key", "private"} for step in steps)


@needs_cli
async def test_an_approval_is_a_question_and_the_call_goes_on_with_its_answer(tmp_path: Path) -> None:
    """No request is made again, and the tool runs once."""
    with endpoint(one_payment) as model:
        agent = ClaudeAgent(options(model.url, tmp_path), approve=[PAY])
        played = await play(AdapterHandler(agent), {"text": "pay 7"})
        (question,) = played.questions
        assert question.question == {"tool": PAY, "input": {"sum": 7}}
        assert payments(tmp_path) == []
        played = await play(AdapterHandler(agent), {"text": "pay 7"}, answers={"approve:toolu_1": True})
    assert played.payload == {"text": "Done."}
    assert payments(tmp_path) == [7]
    assert len(model.asked) == 1 + 2


@needs_cli
@pytest.mark.parametrize(
    ("answer", "told"),
    [(False, "It was refused."), (QuestionDeclined("approve:toolu_1", "over the limit"), "over the limit")],
    ids=["false", "declined"],
)
async def test_a_refusal_reaches_the_model_with_its_reason(tmp_path: Path, answer: Any, told: str) -> None:
    """The tool does not run."""
    with endpoint(one_payment) as model:
        agent = ClaudeAgent(options(model.url, tmp_path), approve=["mcp__bank__*"])
        played = await play(AdapterHandler(agent), {"text": "pay 7"}, answers={"approve:toolu_1": answer})
    assert played.payload == {"text": "Done."}
    assert payments(tmp_path) == []
    (result,) = model.results
    assert result["is_error"]
    assert told in str(result["content"])


@needs_cli
async def test_several_calls_of_one_message_are_approved_one_after_the_other(tmp_path: Path) -> None:
    """The first waits; the model is told to make the second again, and none is lost or run unasked."""

    def script(results: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        done = [each["tool_use_id"] for each in results if not each.get("is_error")]
        if "toolu_3" in done:
            return [text("Both.")]
        if "toolu_1" in done:
            return [call("toolu_3", PAY, sum=2)]
        return [call("toolu_1", PAY, sum=1), call("toolu_2", PAY, sum=2)]

    with endpoint(script) as model:
        agent = ClaudeAgent(options(model.url, tmp_path), approve=[PAY])
        answers = {"approve:toolu_1": True, "approve:toolu_3": True}
        played = await play(AdapterHandler(agent), {"text": "pay both"}, answers=answers)
    assert played.payload == {"text": "Both."}
    assert payments(tmp_path) == [1, 2]
    assert len(model.asked) == 3


@needs_cli
async def test_structured_output_is_the_deliverable(tmp_path: Path) -> None:
    """As the options' schema has it. To Claude it is a tool call, which is no matter of approvals."""
    schema = {"type": "object", "properties": {"price": {"type": "integer"}}, "required": ["price"]}
    how: Any = {"output_format": {"type": "json_schema", "schema": schema}}
    with endpoint(lambda _: [call("toolu_1", "StructuredOutput", price=7)]) as model:
        agent = ClaudeAgent(options(model.url, tmp_path, **how), approve=["*"])
        played = await play(AdapterHandler(agent), "judge")
    assert played.payload == {"price": 7}


@needs_cli
async def test_what_the_turn_is_told_is_the_next_message_and_is_told_once(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """What came before goes with the prompt, what comes while it waits or works keeps the turn open."""
    asked, told = threading.Event(), threading.Event()

    def script(results: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        if not results:
            return [call("toolu_1", PAY, sum=7)]
        asked.set()
        told.wait(30)
        return [text(f"Answer {len(model.asked)}.")]

    async with await kernel.agent("desk") as desk, await kernel.agent("requester") as requester:
        with endpoint(script) as model:
            agent = ClaudeAgent(options(model.url, tmp_path), approve=[PAY])
            turn = await kernel.dispatch("desk", {"text": "pay 7"})
            await requester.turns.tell(turn, "be brief")
            async with working(Worker(desk, AdapterHandler(agent), options=OPTIONS)):
                await in_state(desk, turn, "suspended")
                await requester.turns.tell(turn, "and polite")
                await answer_question(desk, turn, True)
                with anyio.fail_after(60):
                    await anyio.to_thread.run_sync(asked.wait)
                await requester.turns.tell(turn, {"text": "and quick"})
                told.set()
                found = await closed(desk, turn, seconds=60)
    assert found.final_payload == {"text": "Answer 3."}
    assert payments(tmp_path) == [7]
    said = str(model.asked[-1])
    assert [said.count(each) for each in ("be brief", "and polite", "and quick")] == [1, 1, 1]
    assert "be brief" in str(model.asked[0])
    assert "and polite" not in str(model.asked[1])  # it goes on with the call that it waited for


@needs_cli
async def test_a_tool_that_ran_is_a_span(tmp_path: Path) -> None:
    """Below the agent's; one that was refused is none."""
    with endpoint(one_payment) as model:
        spans = await spans_of(AdapterHandler(ClaudeAgent(options(model.url, tmp_path))), input="pay 7")
    agent, tool = spans["invoke_agent claude"], spans[f"execute_tool {PAY}"]
    assert tool.parent == agent.context
    assert (tool.attributes or {})["gen_ai.tool.call.id"] == "toolu_1"
    assert (tool.end_time or 0) > (tool.start_time or 0)
    assert (agent.attributes or {})["gen_ai.usage.input_tokens"] == 20
    with endpoint(one_payment) as model:
        agent_of = ClaudeAgent(options(model.url, tmp_path), approve=[PAY])
        spans = await spans_of(AdapterHandler(agent_of), input="pay 7", answers={"approve:toolu_1": False})
    assert f"execute_tool {PAY}" not in spans


@needs_cli
async def test_a_session_that_cannot_be_kept_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package itself would go on, and another worker would miss what was said."""

    async def append(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(TurnSessions, "append", append)
    with endpoint(lambda _: [text("Hello.")]) as model:
        played = await play(AdapterHandler(ClaudeAgent(options(model.url, tmp_path))), {"text": "hi"})
    assert isinstance(played.outcome, Failed)
    assert "the disk is full" in str(played.payload)


async def test_the_session_store_passes_the_suite_of_the_package() -> None:
    """All required contracts, and subagents' transcripts.

    Sessions are known by their ids alone, which in life are unique; so the suite, which uses one id in two
    projects, gets ids with the project in them.
    """

    class ByProject(TurnSessions):
        async def append(self, key: Any, entries: Any) -> None:
            await super().append(_with_project(key), entries)

        async def load(self, key: Any) -> Any:
            return await super().load(_with_project(key))

        async def list_subkeys(self, key: Any) -> list[str]:
            return await super().list_subkeys(_with_project(key))

    async def suite(turn: Turn) -> str:
        count = 0

        class Named:
            """A turn of the suite's own for each store."""

            def __init__(self, number: int) -> None:
                self.number = number

            async def once(self, key: str, make: Any, *, private: bool) -> Any:
                return await turn.once(f"{self.number}:{key}", make, private=private)

        def make() -> Any:
            nonlocal count
            count += 1
            harness = Harness(turn, agent="claude")
            harness.turn = Named(count)  # type: ignore[assignment]
            return ByProject(harness)

        await run_session_store_conformance(make)
        return f"{count} stores"

    played = await play(suite)
    assert played.payload.endswith("stores")


def _with_project(key: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**key, "session_id": f"{key['project_key']}/{key['session_id']}"}


async def test_an_entry_is_kept_once_by_its_uuid_and_found_from_another_folder() -> None:
    """The package's suite tests neither."""

    async def handler(turn: Turn) -> Any:
        sessions = TurnSessions(Harness(turn, agent="claude"))
        here = {"project_key": "-home-a", "session_id": "s"}
        await sessions.append(here, [{"type": "user", "uuid": "1"}, {"type": "mode"}])
        await sessions.append(
            here, [{"type": "user", "uuid": "1"}, {"type": "mode"}, {"type": "x", "uuid": "2"}]
        )
        again = TurnSessions(Harness(turn, agent="claude"))
        await again.read()
        return await again.load({"project_key": "-home-b", "session_id": "s"})

    played = await play(handler)
    assert played.payload == [
        {"type": "user", "uuid": "1"}, {"type": "mode"}, {"type": "mode"}, {"type": "x", "uuid": "2"}
    ]  # fmt: skip


@pytest.mark.parametrize(
    "taken", [{"resume": "s"}, {"session_store": object()}], ids=lambda each: next(iter(each))
)
def test_options_that_name_a_session_are_refused(taken: dict[str, Any]) -> None:
    """The session is the turn's."""
    with pytest.raises(UsageError, match=next(iter(taken))):
        ClaudeAgent(sdk.ClaudeAgentOptions(**taken)).check()
