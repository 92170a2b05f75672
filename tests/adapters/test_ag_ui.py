"""An agent offered to AG-UI clients: events by the package's own types, over HTTP."""

from __future__ import annotations

import itertools
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import uvicorn
from ag_ui.core import Event, EventType
from pydantic import TypeAdapter
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware

from cgworker import KernelClient, Question, Turn, UsageError, Worker, WorkerOptions, fail, stop
from cgworker.adapters.ag_ui import ag_ui_app
from cgworker.testing import LocalKernel
from cgworker.wire.converter import loads
from tests.journeys.conftest import working
from tests.kernels import NewProject

OPTIONS = WorkerOptions(wait_seconds=5, renew_seconds=0.2, interrupt_seconds=2, grace_seconds=0.5)
_EVENT: TypeAdapter[Any] = TypeAdapter(Event)
_ids = itertools.count()


@pytest.fixture
def anyio_backend() -> str:
    """The server is uvicorn, on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
async def kernel(new_project: NewProject) -> AsyncIterator[LocalKernel]:
    async with new_project(lease_seconds=5) as kernel:
        yield kernel


@pytest.fixture
async def door(kernel: LocalKernel) -> AsyncIterator[KernelClient]:
    """The agent that dispatches for AG-UI clients."""
    async with await kernel.agent("door", grants=("turn.resume.any",)) as door:
        yield door


@pytest.fixture
async def desk(kernel: LocalKernel) -> AsyncIterator[KernelClient]:
    async with await kernel.agent("desk", capacity=4) as desk:
        yield desk


@asynccontextmanager
async def offered(door: KernelClient, **how: Any) -> AsyncIterator[str]:
    """The application on a port of its own; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = ag_ui_app(door, "desk", **how)
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listening])
            while not server.started:  # noqa: ASYNC110  # uvicorn tells nobody
                await anyio.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
            server.should_exit = True


def run_of(said: str = "hi", thread: str = "t-1", **more: Any) -> dict[str, Any]:
    """A run as a client posts it."""
    number = next(_ids)
    messages = [{"id": f"m-{number}", "role": "user", "content": said}]
    return {"threadId": thread, "runId": f"r-{number}", "messages": messages, **more}


async def events_of(url: str, run: dict[str, Any], **http: Any) -> list[Any]:
    """All events of a run; each has to be one of the protocol."""
    async with httpx.AsyncClient(timeout=20) as client:
        answer = await client.post(url, json=run, **http)
    assert answer.status_code == 200, answer.text
    assert "\r" not in answer.text  # which the JavaScript client does not read
    return [
        _EVENT.validate_json(line.removeprefix("data: "))
        for line in answer.text.split("\n\n")
        if line.startswith("data: ")
    ]


def types(events: list[Any]) -> list[str]:
    """What the events are; pieces of one text count once."""
    return [name for name, _ in itertools.groupby(event.type.value for event in events)]


def text_in(events: list[Any]) -> str:
    """All text of the run's messages."""
    return "".join(event.delta for event in events if event.type == EventType.TEXT_MESSAGE_CONTENT)


# ---------------------------------------------------------------- what is told


async def test_what_a_handler_streams_is_a_message_that_comes_as_it_is_written(
    door: KernelClient, desk: KernelClient
) -> None:
    """The deliverable is the run's result, and is not told a second time as text."""
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> dict[str, str]:
        async with turn.stream() as out:
            await out.write("Hello, ")
            await out.flush()
            await out.write(turn.input["text"])
        return {"text": f"Hello, {turn.input['text']}"}

    async with offered(door) as url, working(worker):
        events = await events_of(url, run_of("Ada"))
    assert types(events) == [
        "RUN_STARTED",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert text_in(events) == "Hello, Ada"
    assert events[-1].result == {"text": "Hello, Ada"}
    assert events[-1].outcome.type == "success"


async def test_a_deliverable_that_was_not_streamed_is_a_message(
    door: KernelClient, desk: KernelClient
) -> None:
    """So that a chat interface shows it."""
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(_: Turn) -> str:
        return "Done."

    async with offered(door) as url, working(worker):
        events = await events_of(url, run_of())
    assert text_in(events) == "Done."


async def test_tool_calls_states_and_progress_are_events_of_their_own(
    door: KernelClient, desk: KernelClient
) -> None:
    """Whatever adapter recorded them; a result that is kept in private is not shown."""
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> None:
        await turn.record({"tool": "search", "state": "started"})
        await turn.record({"tool": "search", "state": "completed"})
        await turn.record({"id": "c1", "title": "Read a.txt", "input": {"path": "a.txt"}}, "tool_call")
        await turn.record({"id": "c1", "title": "Read a.txt", "status": "completed"}, "tool_call")
        await turn.once("tool:pay:call_7#1", lambda: "paid")
        await turn.record({"cart": ["bells"]}, "state")
        await turn.record({"step": "packing"})

    async with offered(door) as url, working(worker):
        events = await events_of(url, run_of())
    begun = [event for event in events if event.type == EventType.TOOL_CALL_START]
    results = {e.tool_call_id: e.content for e in events if e.type == EventType.TOOL_CALL_RESULT}
    assert [call.tool_call_name for call in begun] == ["search", "Read a.txt", "pay"]
    assert [call.tool_call_id for call in begun] == list(results)
    assert list(results.values())[::2] == ["completed", "paid"]
    assert [e.delta for e in events if e.type == EventType.TOOL_CALL_ARGS][1] == '{"path":"a.txt"}'
    assert [e.snapshot for e in events if e.type == EventType.STATE_SNAPSHOT] == [{"cart": ["bells"]}]
    assert [e.value for e in events if e.type == EventType.CUSTOM] == [{"step": "packing"}]


async def test_a_failed_turn_is_a_run_error_and_a_stopped_one_is_cancelled(
    door: KernelClient, desk: KernelClient
) -> None:
    """With the report's word as the code."""
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> Any:
        return fail({"error": "no_paper"}) if turn.input["text"] == "print" else stop()

    async with offered(door) as url, working(worker):
        failed = (await events_of(url, run_of("print")))[-1]
        stopped = (await events_of(url, run_of("halt")))[-1]
    assert (failed.type.value, failed.code) == ("RUN_ERROR", "no_paper")
    assert (stopped.type.value, stopped.outcome.type) == ("RUN_FINISHED", "cancelled")


async def test_the_same_run_is_one_turn_and_tells_all_again(
    kernel: LocalKernel, door: KernelClient, desk: KernelClient
) -> None:
    """A client that lost its connection posts it again, also while the kernel is away."""
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> str:
        async with turn.stream() as out:
            await out.write("once")
        return "once"

    run = run_of()
    kernel.faults.drop_response("dispatch", times=2)
    kernel.faults.answer("feed", times=2)
    async with offered(door) as url, working(worker):
        told = [await events_of(url, run) for _ in range(2)]
    assert told[0] == told[1]
    assert len((await door.projections.turns(kernel.project_id)).items) == 1


async def test_a_number_beyond_a_float_is_told_as_json(door: KernelClient, desk: KernelClient) -> None:
    """As a value it would arrive as null."""
    huge = {"huge": loads(b"1e400")}
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> Any:
        await turn.record(huge)
        await turn.record(huge, "state")
        return huge

    async with offered(door) as url, working(worker):
        events = await events_of(url, run_of())
    assert types(events) == ["RUN_STARTED", "CUSTOM", "STATE_SNAPSHOT", "RUN_FINISHED"]
    assert {events[1].value, events[2].snapshot, events[3].result} == {'{"huge":1e400}'}


# ---------------------------------------------------------------- questions


async def test_questions_are_interrupts_and_resume_entries_answer_them(
    door: KernelClient, desk: KernelClient
) -> None:
    """The next run tells what comes after; repeating it changes nothing; one that does not fit is refused."""
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> dict[str, Any]:
        await turn.once("begin", lambda: turn.input)
        async with turn.stream() as out:
            await out.write("before")
        answers = await turn.ask_all({"n": Question(int, "How many?"), "ok": Question(bool, "Sure?")})
        async with turn.stream() as out:
            await out.write("after")
        return answers

    async with offered(door) as url, working(worker):
        asked = await events_of(url, run_of())
        assert text_in(asked) == "before"
        interrupts = {each.message: each for each in asked[-1].outcome.interrupts}
        assert set(interrupts) == {"How many?", "Sure?"}
        assert interrupts["Sure?"].response_schema == {"type": "boolean"}
        count, sure = interrupts["How many?"].id, interrupts["Sure?"].id
        assert count != sure

        wrong = [resolved(count, "many"), resolved(sure, True)]
        refused = (await events_of(url, run_of(resume=wrong)))[-1]
        assert (refused.type.value, refused.code) == ("RUN_ERROR", "invalid_input")

        right = [resolved(count, 3), resolved(sure, True)]
        ended = await events_of(url, run_of(resume=right))
        again = await events_of(url, run_of(resume=right))
    assert text_in(ended).endswith("after")
    assert [events[-1].result for events in (ended, again)] == [{"n": 3, "ok": True}] * 2


def resolved(interrupt_id: str, payload: Any) -> dict[str, Any]:
    """A resume entry with an answer."""
    return {"interruptId": interrupt_id, "status": "resolved", "payload": payload}


async def test_a_cancelled_entry_declines_the_question(door: KernelClient, desk: KernelClient) -> None:
    """The handler is told, which fails here."""
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> bool:
        return await turn.ask(bool, "Ship it?", key="ship")

    async with offered(door) as url, working(worker):
        (interrupt,) = (await events_of(url, run_of()))[-1].outcome.interrupts
        entry = {"interruptId": interrupt.id, "status": "cancelled"}
        ended = (await events_of(url, run_of(resume=[entry])))[-1]
    assert ended.type.value == "RUN_ERROR"
    assert "declined" in ended.message


async def test_who_may_not_answer_is_told_so(door: KernelClient, desk: KernelClient) -> None:
    """A question of another thread, of no turn, twice in one run, or of two turns: nothing is answered."""
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> bool:
        return await turn.ask(bool, "Ship it?", key="ship")

    async with offered(door) as url, working(worker):
        (interrupt,) = (await events_of(url, run_of()))[-1].outcome.interrupts
        entry = resolved(interrupt.id, True)
        for run in (
            run_of(thread="t-2", resume=[entry]),
            run_of(resume=[entry, entry]),
            run_of(resume=[entry, resolved("T-999:ship", True)]),
            *(run_of(resume=[resolved(each, True)]) for each in ("T-999:a", "", "x" * 9_000, "T-1:other")),
        ):
            told = await events_of(url, run)
            assert told[-1].type.value == "RUN_ERROR", run
        ended = await events_of(url, run_of(resume=[entry]))
    assert ended[-1].result is True


# ---------------------------------------------------------------- who calls, and with what


class Named(SimpleUser):
    """A user with a name to display that others have, too."""

    @property
    def display_name(self) -> str:
        return "Ada"


class WithoutIdentity(BaseUser):
    """A user as older programs have them."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def display_name(self) -> str:
        return self._name


class ByHeader(AuthenticationBackend):
    """Believes whatever a request says; for tests only."""

    def __init__(self, user: Callable[[str], BaseUser]) -> None:
        self._user = user

    async def authenticate(self, conn: Any) -> Any:
        return AuthCredentials(), self._user(conn.headers["x-user"])


@pytest.mark.parametrize("user", [SimpleUser, Named, WithoutIdentity])
async def test_users_see_and_answer_only_their_own_turns(
    user: Callable[[str], BaseUser], door: KernelClient, desk: KernelClient
) -> None:
    """The same thread and run of two users is two turns, though they have one name to display."""
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> str:
        return f"{turn.input['text']}: {await turn.ask(bool, 'Ship it?', key='ship')}"

    middleware = [Middleware(AuthenticationMiddleware, backend=ByHeader(user))]
    ann, ben = {"headers": {"x-user": "ann"}}, {"headers": {"x-user": "ben"}}
    async with offered(door, middleware=middleware) as url, working(worker):
        run = run_of("of ann")
        (of_ann,) = (await events_of(url, run, **ann))[-1].outcome.interrupts
        same = run | {"messages": [{"id": "m", "role": "user", "content": "of ben"}]}
        (of_ben,) = (await events_of(url, same, **ben))[-1].outcome.interrupts
        assert of_ann.id != of_ben.id
        refused = await events_of(url, run_of(resume=[resolved(of_ann.id, False)]), **ben)
        assert (refused[-1].type.value, refused[-1].code) == ("RUN_ERROR", "not_found")
        ended = await events_of(url, run_of(resume=[resolved(of_ann.id, True)]), **ann)
    assert ended[-1].result == "of ann: True"


async def test_who_is_not_known_is_refused(door: KernelClient) -> None:
    """Before the body is read."""
    async with offered(door, bearer="s3cret") as url, httpx.AsyncClient() as http:
        for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic s3cret"}):
            refused = await http.post(url, json=run_of(), headers=header)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert (await http.post(url, headers={"host": "evil.example"})).status_code == 400


async def test_what_is_no_run_is_refused_with_its_faults(door: KernelClient) -> None:
    """And the server serves on."""
    async with offered(door, max_bytes=10_000) as url, httpx.AsyncClient() as http:
        as_json = {"content-type": "application/json"}
        assert (
            await http.post(url, content=b"{}", headers={"content-type": "text/plain"})
        ).status_code == 415
        assert (await http.post(url, content=b" " * 20_000, headers=as_json)).status_code == 413
        for body in (b"", b"{", b"[]", b"[" * 9_000, b'{"threadId": 3}', b"\xff"):
            refused = await http.post(url, content=body, headers=as_json)
            assert refused.status_code == 422, body
            assert refused.json()["detail"], body


async def test_a_client_that_leaves_stops_nothing(
    kernel: LocalKernel, door: KernelClient, desk: KernelClient
) -> None:
    """The turn goes on, and its end is there for who comes back with the same run."""
    go_on = anyio.Event()
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> str:
        await turn.record("begun")
        await go_on.wait()
        return "done"

    run = run_of()
    async with offered(door) as url, working(worker):
        async with httpx.AsyncClient(timeout=20) as http, http.stream("POST", url, json=run) as answer:
            async for line in answer.aiter_lines():
                if "begun" in line:
                    break
        go_on.set()
        assert text_in(await events_of(url, run)) == "done"
    assert len((await door.projections.turns(kernel.project_id)).items) == 1


async def test_an_agent_is_offered_by_an_agent(kernel: LocalKernel) -> None:
    """Somebody has to dispatch the turns."""
    async with KernelClient(kernel.base_url) as nobody:
        with pytest.raises(UsageError):
            ag_ui_app(nobody, "desk")
