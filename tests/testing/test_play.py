"""`play()`: a handler on a turn, with the real worker and a scripted kernel."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from attrs import frozen

from cgworker import (
    AgentRef,
    CommandHandler,
    Failed,
    Interruption,
    KernelClient,
    Outcome,
    Reason,
    Stopped,
    Succeeded,
    Turn,
    UsageError,
    Worker,
    WorkerOptions,
    fail,
    handles,
    retry,
    suspend,
)
from cgworker.testing import play


@frozen
class Question:
    text: str


@frozen
class Answer:
    text: str


async def answer(turn: Turn, question: Question) -> Answer:
    await turn.record({"step": 1})
    return Answer(question.text.upper())


async def test_a_handler_is_played_from_its_input_to_its_outcome() -> None:
    """The input may be an object; what was appended is there to look at."""
    played = await play(answer, Question("hi"))
    assert (played.outcome, played.payload) == (Succeeded({"text": "HI"}), {"text": "HI"})
    assert [(record.role, record.payload) for record in played.records] == [("progress", {"step": 1})]
    assert (played.entered_count, played.error, played.interruption) == (1, None, None)
    assert played.report.settled


async def test_input_that_does_not_fit_is_what_a_kernel_would_see() -> None:
    """The real handler reads it."""
    played = await play(answer, {"text": 1})
    assert played.payload["error"] == "invalid_input"
    assert played.entered_count == 1


async def test_what_a_handler_raises_is_reported_and_kept() -> None:
    """A test wants the exception, its reader the report."""

    async def broken(_: Turn) -> None:
        raise KeyError("a")

    played = await play(broken)
    assert isinstance(played.error, KeyError)
    assert isinstance(played.outcome, Failed)
    assert played.payload["error"] == "handler_error"


@pytest.mark.parametrize(
    ("decided", "reason"), [(suspend("later"), "later"), (retry(), "worker_retry"), (fail("no"), None)]
)
async def test_other_outcomes_are_played_as_well(decided: Outcome, reason: str | None) -> None:
    """A turn that is put aside is played until then, and not again."""

    async def decide(_: Turn) -> Outcome:
        return decided

    played = await play(decide)
    assert (played.suspended_reason, played.entered_count) == (reason, 1)


async def test_records_and_the_attempt_are_given() -> None:
    """As an earlier attempt left them."""

    async def look(turn: Turn) -> Any:
        return [turn.attempt, [item.payload for item in await turn.records("progress")]]

    played = await play(look, attempt=3, records=[("progress", {"step": 1}), ("progress", "two")])
    assert played.payload == [3, [{"step": 1}, "two"]]
    assert played.records == ()


async def test_many_records_come_page_by_page() -> None:
    """More than a claim brings along."""

    async def look(turn: Turn) -> int:
        return len(await turn.records())

    assert (await play(look, records=[("progress", n) for n in range(250)])).payload == 251


async def test_a_stop_reaches_an_async_handler() -> None:
    """It is cancelled, and may finish something first."""
    seen = []

    async def wait(turn: Turn) -> str:
        try:
            await anyio.sleep(3600)
        finally:
            seen.append(turn.stop_requested)
        return "never"

    played = await play(wait, stop_after=0.01)
    assert isinstance(played.outcome, Stopped)
    assert played.interruption is not None
    assert (played.interruption.reason, seen) == (Reason.STOP, [True])


async def test_a_stop_reaches_a_thread() -> None:
    """Where it checks."""
    ended = threading.Event()

    def wait(turn: Turn) -> None:
        try:
            while True:
                turn.check()
                time.sleep(0.005)  # what a thread is for
        finally:
            ended.set()

    assert isinstance((await play(wait, stop_after=0.02)).outcome, Stopped)
    assert ended.is_set()


async def test_a_stop_reaches_a_command() -> None:
    """The real child process; what it leaves in its grace is kept."""
    wait_for_it = 'while ! test -e "$CG_STOP_FILE"; do sleep 0.05; done; cp "$CG_STOP_FILE" "$CG_FINAL_FILE"'
    played = await play(CommandHandler(["sh", "-c", wait_for_it]), stop_after=0.2)
    assert isinstance(played.outcome, Stopped)
    assert played.payload == {"reason": "stop", "note": "play()"}


async def test_a_lost_lease_ends_the_handler_and_nothing_more_is_taken() -> None:
    """Whatever it wants to write is refused, and nothing is settled."""
    refused: list[BaseException] = []

    async def work(turn: Turn) -> str:
        await turn.record("before")
        try:
            await anyio.sleep(3600)
        finally:
            with turn.shield(1):
                try:
                    await turn.record("after")
                except Exception as error:
                    refused.append(error)
        return "done"

    played = await play(work, lose_lease_after=0.05)
    assert (played.outcome, played.report.settled) == (None, False)
    assert [record.payload for record in played.records] == ["before"]
    assert "not the current one" in str(refused[0])


async def test_resources_stand_in_for_the_lifespan() -> None:
    """A test gives what it likes; without them the lifespan given is entered."""
    entered = []

    @asynccontextmanager
    async def lifespan(_: Worker) -> AsyncIterator[dict[str, Any]]:
        entered.append(True)
        yield {"database": "real"}

    async def ask(_: Turn, *, database: str) -> str:
        return database

    assert (await play(ask, resources={"database": "fake"}, lifespan=lifespan)).payload == "fake"
    assert entered == []
    assert (await play(ask, lifespan=lifespan)).payload == "real"
    with pytest.raises(UsageError, match="ask asks for `database`"):
        await play(ask, resources={})


class Desk(Worker):
    """A worker with hooks."""

    interruptions: list[Interruption]

    @handles("turn.conversation.v1")
    async def answer(self, _: Turn, question: Question) -> Answer:
        return Answer(f"{self.greeting}{question.text}")

    @handles("wait.v1")
    async def wait(self, _: Turn) -> None:
        await anyio.sleep(3600)

    greeting = "hello "

    async def on_interrupted(self, _: Turn, interruption: Interruption) -> None:
        Desk.interruptions = [interruption]


async def test_a_whole_worker_is_played_with_its_middleware_and_hooks() -> None:
    """By its class, or as one that has a kernel of its own, which it does not ask."""
    assert (await play(Desk, Question("you"))).payload == {"text": "hello you"}
    assert isinstance((await play(Desk, kind="wait.v1", stop_after=0.01)).outcome, Stopped)
    assert Desk.interruptions[0].reason is Reason.STOP
    assert (await play(Desk, kind="other.v1")).suspended_reason == "no_handler"


async def test_a_worker_that_has_a_kernel_is_played_without_it() -> None:
    """Its own client is not used, and what is played leaves nothing in it."""
    client = KernelClient("http://127.0.0.1:9", agent=AgentRef(project_id="p", agent_id="a"), token="t")
    async with client:
        worker = Worker(client, options=WorkerOptions(max_attempts=2))
        worker.add(None, lambda _: "done")
        assert (await play(worker)).payload == "done"
        assert (await play(worker, attempt=3)).payload["error"] == "attempts_exhausted"
        assert worker.kernel is client


async def test_children_dispatched_directly_are_seen() -> None:
    """Whom they went to, and what they were given."""

    async def split(turn: Turn) -> None:
        await turn.dispatch("expert", {"part": 1}, key="first")
        await turn.dispatch("expert", {"part": 1}, key="first")

    played = await play(split)
    assert [(each.name, each.agent_id, each.input) for each in played.children] == [
        ("first", "expert", {"part": 1})
    ]


async def test_playing_warns_of_no_secret_in_the_open(caplog: pytest.LogCaptureFixture) -> None:
    """The scripted kernel is in the same process: no credential crosses a network."""
    await play(answer, Question("Ship it?"))
    assert "plain http" not in caplog.text
