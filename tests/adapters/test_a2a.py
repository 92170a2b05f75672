"""An A2A agent as a handler: the SDK's client against a scripted agent on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from a2a.types import TaskState

from cgworker import (
    AdapterHandler,
    Failed,
    Stopped,
    Succeeded,
    UsageError,
    Worker,
    WorkerOptions,
    answer_question,
)
from cgworker.adapters.a2a import A2AAgent
from cgworker.testing import LocalKernel, play
from tests.adapters.a2a_agent import COMPLETED, Answers, Delivers, Says, Stands, Streams, Waits, agent
from tests.journeys.conftest import closed, in_state, working
from tests.kernels import NewProject

TOKEN = "token-of-the-agent-0123456789"
ASKS = Stands(TaskState.TASK_STATE_INPUT_REQUIRED, "Which city?")
OPTIONS = WorkerOptions(concurrency=1, renew_seconds=0.2, interrupt_seconds=2, wait_seconds=5)


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
async def kernel(new_project: NewProject) -> AsyncIterator[LocalKernel]:
    async with new_project(lease_seconds=5) as kernel:
        yield kernel


def at(url: str, **how: Any) -> AdapterHandler[Any]:
    return AdapterHandler(A2AAgent(url, poll_seconds=0.05, **how))


# ---------------------------------------------------------------- there and back


async def test_a_turn_is_forwarded_and_what_the_agent_does_is_recorded() -> None:
    """What it says becomes records, its text few records of a stream, its artifacts the deliverable."""
    with agent([Says("Reading."), Streams(("Hel", "lo")), COMPLETED]) as remote:
        played = await play(at(remote.url), {"text": "Hi"})
    assert played.outcome == Succeeded({"text": "Hello"})
    assert [said for _, said in remote.told] == ["Hi"]
    progress = [record.payload for record in played.records if record.role == "progress"]
    assert progress == [{"agent_says": {"text": "Reading."}}, {"index": 0, "text": "Hello"}]


async def test_data_goes_there_and_comes_back_as_data() -> None:
    """Whole numbers stay whole, although A2A knows none."""
    with agent([Delivers({"total": 3, "of": [1.5]}), COMPLETED]) as remote:
        played = await play(at(remote.url), {"order": 12})
    assert played.payload == {"total": 3, "of": [1.5]}
    assert type(played.payload["total"]) is int
    assert [said for _, said in remote.told] == ['[{"order": 12}]']


async def test_an_agent_may_answer_without_a_task() -> None:
    """A message alone is the deliverable."""
    with agent([Answers("Hello")]) as remote:
        played = await play(at(remote.url), "Hi")
    assert played.payload == {"text": "Hello"}


async def test_an_agent_that_does_not_stream_is_asked_how_the_task_stands() -> None:
    """So no connection has to last as long as the work."""
    with agent([Delivers("done"), COMPLETED], streaming=False) as remote:
        played = await play(at(remote.url), "Hi")
    assert played.payload == "done"
    assert set(remote.calls) == {"SendMessage", "GetTask"}


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (TaskState.TASK_STATE_FAILED, "failed"),
        (TaskState.TASK_STATE_REJECTED, "rejected"),
        (TaskState.TASK_STATE_CANCELED, "canceled"),
        (TaskState.TASK_STATE_AUTH_REQUIRED, "auth_required"),
    ],
)
async def test_what_did_not_succeed_is_a_typed_failure(state: TaskState, word: str) -> None:
    """With what the agent said about it; a task that waits for nobody is cancelled."""
    with agent([Stands(state, "No way.")]) as remote:
        played = await play(at(remote.url), "Hi")
    assert played.outcome == Failed({"error": f"a2a_{word}", "agent_says": {"text": "No way."}})
    assert ("CancelTask" in remote.calls) == (word == "auth_required")


# ---------------------------------------------------------------- questions


async def test_an_agent_that_needs_input_asks_it_of_the_turn() -> None:
    """The answer goes to the same task, and what was said before is not said again."""
    with agent([ASKS], [Delivers("Rain in Bern."), COMPLETED]) as remote:
        played = await play(at(remote.url), "Weather?", answers={"a2a:0": "Bern"})
    assert played.payload == "Rain in Bern."
    assert played.questions[0].question == {"text": "Which city?"}
    assert [said for _, said in remote.told] == ["Weather?", "Bern"]


async def test_the_conversation_goes_on_at_another_worker(kernel: LocalKernel) -> None:
    """The task is kept with the turn; two questions in the same words are two questions."""
    with agent([ASKS], [ASKS], [Delivers("Rain."), COMPLETED]) as remote:
        async with await kernel.agent("desk") as desk:
            turn = await kernel.dispatch("desk", "Weather?")
            for answer in ("Bern", "Basel"):
                async with working(Worker(desk, at(remote.url), options=OPTIONS)):
                    await in_state(desk, turn, "suspended")
                await answer_question(desk, turn, answer)
            async with working(Worker(desk, at(remote.url), options=OPTIONS)):
                found = await closed(desk, turn)
    assert (found.outcome, found.final_payload) == ("succeeded", "Rain.")
    assert [said for _, said in remote.told] == ["Weather?", "Bern", "Basel"]
    assert len({message_id for message_id, _ in remote.told}) == 3


# ---------------------------------------------------------------- being ended


async def test_a_stop_cancels_the_task_of_the_agent() -> None:
    """And the turn ends as stopped, once the agent says so."""
    with agent([Waits()]) as remote:
        played = await play(at(remote.url), "Hi", stop_after=0.5)
        assert remote.cancelled.is_set()
    assert isinstance(played.outcome, Stopped)


async def test_with_the_lease_lost_the_agent_is_told_nothing_more() -> None:
    """The turn may be another worker's already, and so may the task."""
    with agent([Waits()]) as remote:
        played = await play(at(remote.url), "Hi", lose_lease_after=0.5)
    assert played.outcome is None
    assert remote.calls == ["SendStreamingMessage"]


async def test_a_worker_that_shuts_down_leaves_the_task_to_the_next(kernel: LocalKernel) -> None:
    """It would be lost otherwise; the next attempt finds it, and says nothing again."""
    with agent([Waits(), Delivers("done"), COMPLETED]) as remote:
        async with await kernel.agent("desk") as desk:
            turn = await kernel.dispatch("desk", "Hi")
            async with working(Worker(desk, at(remote.url), options=OPTIONS)) as worker:
                await anyio.to_thread.run_sync(partial(remote.waiting.wait, 20))
                await _recorded(desk, turn, "a2a:task")
                worker.drain(force=True)
            async with working(Worker(desk, at(remote.url), options=OPTIONS)):
                await in_state(desk, turn, "running")
                remote.go_on.set()
                found = await closed(desk, turn)
    assert (found.outcome, found.final_payload) == ("succeeded", "done")
    assert len(remote.told) == 1
    assert not remote.cancelled.is_set()


async def _recorded(desk: Any, turn: Any, key: str) -> None:
    with anyio.fail_after(60):
        async with aclosing(desk.turns.follow(turn, poll_seconds=0.1)) as items:
            async for item in items:
                if item.record.record_role == "step" and item.payload["key"] == key:
                    return


# ---------------------------------------------------------------- connections


@pytest.mark.parametrize("after_chunks", [0, 2])
async def test_a_cut_connection_does_not_make_the_agent_hear_it_twice(after_chunks: int) -> None:
    """Not even if it is cut before the agent named the task: it is then found by its context."""
    with agent([Says("Reading."), Delivers("done"), COMPLETED]) as remote:
        remote.cut("SendStreamingMessage", after_chunks)
        played = await play(at(remote.url), "Hi")
    assert played.payload == "done"
    assert len(remote.told) == 1


async def test_a_cut_answer_to_a_question_is_not_given_twice() -> None:
    """The task's history tells that it arrived."""
    with agent([ASKS], [Delivers("Rain."), COMPLETED]) as remote:
        remote.cut("SendStreamingMessage", 99)  # the first one gets through
        remote.cut("SendStreamingMessage", 0)
        played = await play(at(remote.url), "Weather?", answers={"a2a:0": "Bern"})
    assert played.payload == "Rain."
    assert [said for _, said in remote.told] == ["Weather?", "Bern"]


async def test_a_message_of_which_nobody_knows_whether_it_arrived_is_not_repeated() -> None:
    """Unless the agent is said to know repeats; then it gets the same message id."""
    with agent([Answers("Hello")]) as remote:
        remote.cut("SendStreamingMessage", 0)
        played = await play(at(remote.url), "Hi")
    assert played.outcome == Failed({"error": "a2a_unknown_whether_sent"})
    with agent([Answers("Hello")], [Answers("Hello")]) as remote:
        remote.cut("SendStreamingMessage", 0)
        played = await play(at(remote.url, send_again=True), "Hi")
    assert played.payload == {"text": "Hello"}
    assert len({message_id for message_id, _ in remote.told}) == 1


async def test_an_agent_that_is_busy_is_asked_again_and_one_that_refuses_is_not() -> None:
    """A turn of an agent that refuses fails with what it said."""
    with agent([Answers("Hello")]) as remote:
        remote.refusals[:] = [503, 503]
        assert (await play(at(remote.url), "Hi")).payload == {"text": "Hello"}
    with agent() as remote:
        remote.refusals[:] = [403]
        played = await play(at(remote.url), "Hi")
    assert isinstance(played.outcome, Failed)
    assert "403" in played.payload["message"]
    assert remote.calls == ["SendStreamingMessage"]


# ---------------------------------------------------------------- the token


async def test_the_token_goes_to_the_agent_and_into_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if the agent repeats it."""
    monkeypatch.setenv("AGENT_TOKEN", TOKEN)
    with agent([Says(f"You are {TOKEN}"), Streams((TOKEN,)), COMPLETED]) as remote:
        played = await play(at(remote.url, token_env="AGENT_TOKEN"), "Hi")
    assert remote.tokens == {f"Bearer {TOKEN}"}
    assert played.payload == {"text": "***"}
    assert TOKEN not in repr(played)


async def test_the_token_goes_nowhere_else_unless_that_is_said(tmp_path: Path) -> None:
    """A card may name any place to send messages to."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "token").chmod(0o600)
    with agent([Answers("Hello")]) as other, agent(elsewhere=other.url) as remote:
        refused = await play(at(remote.url, token_file=tmp_path / "token"), "Hi")
        assert (other.calls, isinstance(refused.error, UsageError)) == ([], True)
        how = {"token_file": tmp_path / "token", "token_origins": (other.url,)}
        assert (await play(at(remote.url, **how), "Hi")).payload == {"text": "Hello"}


def test_a_missing_token_is_said_before_a_turn_is_claimed(tmp_path: Path) -> None:
    """With the name of what to set."""
    with pytest.raises(UsageError, match="set AGENT_TOKEN"):
        A2AAgent("http://127.0.0.1:9", token_env="AGENT_TOKEN").check()
    with pytest.raises(UsageError, match="cannot be read"):
        A2AAgent("http://127.0.0.1:9", token_file=tmp_path / "none").check()


@pytest.mark.parametrize(("mode", "text", "said"), [(0o604, TOKEN, "must be 0600"), (0o600, "", "is empty")])
def test_a_token_that_others_may_read_or_that_is_none_is_refused(
    tmp_path: Path, mode: int, text: str, said: str
) -> None:
    """Before a turn is claimed; without a token the agent would have been called as nobody."""
    file = tmp_path / "token"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(UsageError, match=said):
        A2AAgent("http://127.0.0.1:9", token_file=file).check()
