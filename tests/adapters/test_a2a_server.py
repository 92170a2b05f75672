"""An agent offered as an A2A server: the SDK's own client, over HTTP on loopback."""

from __future__ import annotations

import itertools
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import httpx
import pytest
import uvicorn
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskState,
)
from a2a.utils.errors import A2AError
from attrs import frozen
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware

from cgworker import (
    AdapterHandler,
    KernelClient,
    Turn,
    TurnRef,
    UsageError,
    Worker,
    WorkerOptions,
    answer_question,
    fail,
)
from cgworker.adapters.a2a import A2AAgent
from cgworker.adapters.a2a_parts import NumberLost, parts_of, text_of, value_of
from cgworker.adapters.a2a_server import a2a_app
from cgworker.testing import LocalKernel
from cgworker.worker.offers import publish_offers
from tests.journeys.conftest import closed, in_state, working
from tests.kernels import NewProject

OPTIONS = WorkerOptions(wait_seconds=5, renew_seconds=0.2, interrupt_seconds=2)
_ids = itertools.count()


@pytest.fixture
def anyio_backend() -> str:
    """The server is the SDK's, on asyncio."""
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
    """The agent that dispatches for A2A clients."""
    async with await kernel.agent("door", grants=("turn.resume.any", "turn.stop.any")) as door:
        yield door


@pytest.fixture
async def desk(kernel: LocalKernel) -> AsyncIterator[KernelClient]:
    async with await kernel.agent("desk", capacity=4) as desk:
        yield desk


@asynccontextmanager
async def offered(door: KernelClient, **how: Any) -> AsyncIterator[str]:
    """The application on a port of its own; its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        app = a2a_app(door, "desk", url=url, **how)
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listening])
            while not server.started:  # noqa: ASYNC110  # uvicorn tells nobody
                await anyio.sleep(0.01)
            yield url
            server.should_exit = True


@asynccontextmanager
async def client_of(url: str, **http: Any) -> AsyncIterator[Client]:
    """A client that has read the card, as any A2A client does."""
    async with httpx.AsyncClient(timeout=20, **http) as connections:
        card = await A2ACardResolver(connections, url).get_agent_card()
        yield ClientFactory(ClientConfig(httpx_client=connections)).create(card)


def saying(said: Any, task_id: str | None = None, **how: Any) -> SendMessageRequest:
    message_id = how.pop("message_id", f"m-{next(_ids)}")
    message = Message(
        message_id=message_id, task_id=task_id, role=Role.ROLE_USER, parts=parts_of(said), **how
    )
    return SendMessageRequest(message=message)


async def said(
    client: Client, request: SendMessageRequest, *, begun: Callable[[], None] = lambda: None
) -> list[StreamResponse]:
    """All that the stream tells; `begun` is called when it has begun."""
    events = []
    with anyio.fail_after(60):
        async for event in client.send_message(request):
            begun()
            events.append(event)
    return events


def words_at_last(events: list[StreamResponse]) -> Any:
    """What the last event says: the task itself, if that was all there was to tell."""
    last = events[-1]
    status = last.task.status if last.HasField("task") else last.status_update.status
    return value_of(status.message.parts)


async def task_after(client: Client, events: list[StreamResponse]) -> Task:
    return await client.get_task(GetTaskRequest(id=events[0].task.id))


def delivered(task: Task) -> Any:
    [artifact] = task.artifacts
    return value_of(artifact.parts)


def states(events: list[StreamResponse]) -> list[str]:
    """The states that a stream tells, without repeats."""
    told = [event.task.status.state for event in events if event.HasField("task")]
    told += [event.status_update.status.state for event in events if event.HasField("status_update")]
    names = [TaskState.Name(state).removeprefix("TASK_STATE_").lower() for state in told]
    return [name for name, _ in itertools.groupby(names)]


# ---------------------------------------------------------------- messages


async def test_a_message_is_a_turn_and_its_result_an_artifact(door: KernelClient, desk: KernelClient) -> None:
    """What the handler streams comes as it is written; other progress is a status."""
    begun = anyio.Event()
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> Any:
        await begun.wait()
        async with turn.stream() as out:
            await out.write("Hel")
            await out.flush()
            await out.write("lo")
        return {"answer": turn.input["text"].upper()}

    async with offered(door) as url, client_of(url) as client, working(worker):
        events = await said(client, saying("hi"), begun=begun.set)
        task = await task_after(client, events)
    *pieces, last = [event.artifact_update for event in events if event.HasField("artifact_update")]
    so_far = "".join(text_of(artifact.parts) for artifact in events[0].task.artifacts)
    assert so_far + "".join(text_of(piece.artifact.parts) for piece in pieces) == "Hello"
    assert (value_of(last.artifact.parts), last.append) == ({"answer": "HI"}, False)
    assert states(events)[-1] == "completed"
    assert delivered(task) == {"answer": "HI"}
    assert [value_of(message.parts) for message in task.history] == [{"text": "hi"}]


async def test_progress_is_told_as_it_happens(door: KernelClient, desk: KernelClient) -> None:
    """A record that is no streamed text is a status of the working task."""
    go_on = anyio.Event()
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> str:
        await go_on.wait()
        await turn.record({"step": "reading"})
        return "done"

    async with offered(door) as url, client_of(url) as client, working(worker):
        told = []
        async for event in client.send_message(saying("hi")):
            go_on.set()
            told.append(event.status_update.status)
    assert {"step": "reading"} in [value_of(status.message.parts) for status in told]


async def test_the_same_message_is_one_task(door: KernelClient, desk: KernelClient) -> None:
    """A client that got no answer sends it again with the same id."""
    runs: list[str] = []
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> str:
        runs.append(turn.ref.turn_id)
        return "done"

    async with offered(door) as url, client_of(url) as client, working(worker):
        tasks = [await said(client, saying("hi", message_id="the-same")) for _ in range(3)]
    assert {events[0].task.id for events in tasks} == set(runs)
    assert len(runs) == 1


async def test_a_failed_turn_is_a_failed_task(door: KernelClient, desk: KernelClient) -> None:
    """With the report as what the agent says."""
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(_: Turn) -> Any:
        return fail({"error": "no_such_bell"})

    async with offered(door) as url, client_of(url) as client, working(worker):
        events = await said(client, saying("hi"))
        task = await task_after(client, events)
    assert task.status.state == TaskState.TASK_STATE_FAILED
    assert value_of(task.status.message.parts) == {"error": "no_such_bell"}


async def test_who_does_not_want_to_wait_looks_later(door: KernelClient, desk: KernelClient) -> None:
    """`returnImmediately`: the task is there before anybody works it, and GetTask tells how it stands."""
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(_: Turn) -> str:
        return "done"

    async with offered(door) as url, httpx.AsyncClient(timeout=20) as connections:
        card = await A2ACardResolver(connections, url).get_agent_card()
        client = ClientFactory(ClientConfig(streaming=False, httpx_client=connections)).create(card)
        request = saying("hi")
        request.configuration.CopyFrom(SendMessageConfiguration(return_immediately=True))
        events = await said(client, request)
        assert states(events) == ["submitted"]
        turn = TurnRef(project_id=_project(door), turn_id=events[0].task.id)
        async with working(worker):
            await closed(desk, turn)
        assert delivered(await task_after(client, events)) == {"text": "done"}


# ---------------------------------------------------------------- questions


@pytest.mark.parametrize("late_seconds", [0, 1], ids=["asked while it is told", "asked before"])
async def test_a_question_is_input_required_and_the_next_message_answers_it(
    kernel: LocalKernel, door: KernelClient, desk: KernelClient, late_seconds: float
) -> None:
    """At most once: a repeat of the answer changes nothing; an answer that does not fit is refused."""
    kernel.faults.delay_response("dispatch", late_seconds)
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> Any:
        count = await turn.ask(int, "How many?", key="count")
        sure = await turn.ask(bool, f"{count}, really?", key="sure")
        return {"count": count, "sure": sure}

    async with offered(door) as url, client_of(url) as client, working(worker):
        asked = await said(client, saying("bells, please"))
        assert states(asked)[-1] == "input_required"
        assert words_at_last(asked) == {"text": "How many?"}
        task_id = asked[0].task.id
        with pytest.raises(A2AError):
            await said(client, saying("many", task_id))
        answer = saying("3", task_id, message_id="the-answer")
        again = await said(client, answer)
        assert states(again)[-1] == "input_required"
        await said(client, answer)
        ended = await said(client, saying(True, task_id))
        task = await task_after(client, ended)
    assert delivered(task) == {"count": 3, "sure": True}
    history = [value_of(message.parts) for message in task.history]
    assert history == [{"text": "bells, please"}, 3, True]


# ---------------------------------------------------------------- being ended


async def test_cancelling_a_task_stops_its_turn(door: KernelClient, desk: KernelClient) -> None:
    """Who follows hears of it, and a second time it is too late."""
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(_: Turn) -> None:
        await anyio.sleep_forever()

    async with offered(door) as url, client_of(url) as client, working(worker):
        stream = client.send_message(saying("hi"))
        task = (await anext(stream)).task
        assert await client.cancel_task(CancelTaskRequest(id=task.id))
        rest = [event async for event in stream]
        assert states(rest)[-1] == "canceled"
        with pytest.raises(A2AError):
            await client.cancel_task(CancelTaskRequest(id=task.id))


# ---------------------------------------------------------------- nothing is kept


async def test_another_server_goes_on_with_the_task(door: KernelClient, desk: KernelClient) -> None:
    """It was restarted, or is one of many: a task is a turn, and all there is to know stands there."""
    go_on = anyio.Event()
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(turn: Turn) -> str:
        async with turn.stream() as out:
            await out.write("so far")
        await go_on.wait()
        return "done"

    async with working(worker):
        async with offered(door) as url, client_of(url) as client:
            with anyio.fail_after(60):
                async with aclosing(cast("Any", client.send_message(saying("hi")))) as stream:
                    task = (await anext(stream)).task
                    while not task.artifacts and not (await anext(stream)).HasField("artifact_update"):
                        pass
        async with offered(door) as url, client_of(url) as client:
            events: list[StreamResponse] = []
            with anyio.fail_after(60):
                async for event in client.subscribe(SubscribeToTaskRequest(id=task.id)):
                    events.append(event)
                    go_on.set()
    assert value_of(events[0].task.artifacts[0].parts) == {"text": "so far"}
    assert states(events)[-1] == "completed"


# ---------------------------------------------------------------- who may see what


class ByName(AuthenticationBackend):
    """Believes whatever name a request gives; for tests only."""

    async def authenticate(self, conn: Any) -> Any:
        return AuthCredentials(), SimpleUser(conn.headers["x-name"])


class ByNumber(AuthenticationBackend):
    """Believes whatever number a request gives; all users have one name."""

    async def authenticate(self, conn: Any) -> Any:
        return AuthCredentials(), Ada(conn.headers["x-name"])


class Ada(SimpleUser):
    """One of several users of this name."""

    @property
    def display_name(self) -> str:
        return "Ada"


@pytest.mark.parametrize("backend", [ByName, ByNumber])
async def test_users_see_only_their_own_tasks(
    backend: type[AuthenticationBackend], door: KernelClient, desk: KernelClient
) -> None:
    """And the same message id of two users is two tasks."""
    worker = Worker(desk, options=OPTIONS)

    @worker.turn()
    async def handle(_: Turn) -> str:
        return "done"

    middleware = [Middleware(AuthenticationMiddleware, backend=backend())]
    async with (
        offered(door, middleware=middleware) as url,
        client_of(url, headers={"x-name": "ann"}) as ann,
        client_of(url, headers={"x-name": "ben"}) as ben,
        working(worker),
    ):
        of_ann = await said(ann, saying("hi", message_id="m"))
        of_ben = await said(ben, saying("hi", message_id="m"))
        assert of_ann[0].task.id != of_ben[0].task.id
        with pytest.raises(A2AError):
            await ben.get_task(GetTaskRequest(id=of_ann[0].task.id))
        with pytest.raises(A2AError):
            await said(ben, saying("and?", of_ann[0].task.id))


@pytest.mark.usefixtures("desk")
async def test_the_id_of_a_user_is_not_published(kernel: LocalKernel, door: KernelClient) -> None:
    """It may be an e-mail address, and each agent of the project can read the turn's events."""
    middleware = [Middleware(AuthenticationMiddleware, backend=ByName())]
    headers = {"x-name": "ann@example.org", "A2A-Version": "1.0"}
    async with offered(door, middleware=middleware) as url, httpx.AsyncClient(timeout=20) as http:
        answer = await http.post(url, content=message_with("1"), headers=headers)
    turn = TurnRef(project_id=kernel.project_id, turn_id=answer.json()["result"]["task"]["id"])
    events = [event async for event in door.turns.events(turn)]
    assert "caller" in events[0].annotations
    assert "ann@" not in repr(events)


@pytest.mark.usefixtures("desk")
async def test_a_caller_whom_nobody_knows_is_refused(door: KernelClient) -> None:
    """Without it, all of them would be one user who sees the tasks of all; the card is for everybody."""

    class KnowsNobody(AuthenticationBackend):
        async def authenticate(self, conn: Any) -> None:  # noqa: ARG002
            return None

    middleware = [Middleware(AuthenticationMiddleware, backend=KnowsNobody())]
    async with offered(door, middleware=middleware) as url, httpx.AsyncClient() as http:
        asked = await http.post(
            url, json={"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "T-1"}}
        )
        card = await http.get(f"{url}/.well-known/agent-card.json")
    assert (asked.status_code, asked.headers["www-authenticate"], card.status_code) == (401, "Bearer", 200)


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, float("1e400")])
def test_a_number_that_a2a_would_change_is_refused(number: float) -> None:
    """It carries floats alone; wherever in the value it stands."""
    with pytest.raises(NumberLost, match="cannot carry the number"):
        parts_of({"a": [1, {"b": number}]})
    assert value_of(parts_of({"a": [2**53, 0.5, True]})) == {"a": [2**53, 0.5, True]}


@pytest.mark.parametrize("number", ["9007199254740993", "-9007199254740993", "1e400", "1" * 5000])
@pytest.mark.usefixtures("desk")
async def test_a_message_with_a_number_that_a2a_would_change_is_refused(
    kernel: LocalKernel, door: KernelClient, number: str
) -> None:
    """It came as JSON, which has numbers of any size; the agent would have got another one."""
    async with offered(door) as url, httpx.AsyncClient(timeout=20) as http:
        answer = await http.post(url, content=message_with(number), headers={"A2A-Version": "1.0"})
    assert answer.json()["id"] == 7
    assert answer.json()["error"]["code"] == -32602
    assert "A2A cannot carry the number" in answer.json()["error"]["message"]
    assert (await door.projections.turns(kernel.project_id)).items == ()


@pytest.mark.parametrize("number", ["9007199254740992", "1e300", "1.0e16", "0.1"])
async def test_a_message_with_a_number_that_a_float_holds_arrives(
    door: KernelClient, desk: KernelClient, number: str
) -> None:
    """Also one that is beyond 2**53 and was sent as a float: as such it is passed on."""
    async with offered(door) as url, httpx.AsyncClient(timeout=20) as http:
        answer = await http.post(url, content=message_with(number), headers={"A2A-Version": "1.0"})
    task = answer.json()["result"]["task"]
    assert task["history"][0]["parts"][0]["data"] == {"n": float(number)}
    assert desk.agent is not None
    turn = TurnRef(project_id=desk.agent.project_id, turn_id=task["id"])
    assert [item.payload async for item in door.turns.records(turn)] == [{"n": float(number)}]


def message_with(number: str) -> bytes:
    """A request, as bytes, for a data part that holds this number."""
    return (
        b'{"jsonrpc":"2.0","id":7,"method":"SendMessage","params":{"configuration":{"returnImmediately":true},'
        b'"message":{"messageId":"m","role":"ROLE_USER","parts":[{"data":{"n":' + number.encode() + b"}}]}}}"
    )


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("levels", [300, 100_000])
async def test_a_body_that_is_nested_deeply_is_refused(door: KernelClient, levels: int) -> None:
    """By a 4xx that says so; Python's parser breaks on the deeper one, and the server goes on."""
    async with offered(door) as url, httpx.AsyncClient(timeout=20) as http:
        body = message_with("[" * levels + "]" * levels)
        answer = await http.post(url, content=body, headers={"A2A-Version": "1.0"})
        assert (answer.status_code, "nested deeper" in answer.text) == (400, True)
        assert (await http.get(f"{url}/.well-known/agent-card.json")).status_code == 200


async def test_a_body_has_a_greatest_size(door: KernelClient) -> None:
    """Whether or not its length is told; one that fits is read as it came."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * 500

    async with offered(door, max_bytes=1000) as url, httpx.AsyncClient() as http:
        statuses = [
            (await http.post(url, content=body)).status_code for body in (b" " * 1001, pieces(), b" " * 1000)
        ]
    assert statuses == [413, 413, 200]


async def test_turns_that_are_no_tasks_are_not_to_be_seen(
    kernel: LocalKernel, door: KernelClient, desk: KernelClient
) -> None:
    """Somebody else's turns at the same agent are nobody's A2A tasks."""
    turn = await kernel.dispatch("desk", {"secret": 1})
    await in_state(desk, turn, "queued")
    async with offered(door) as url, client_of(url) as client:
        with pytest.raises(A2AError):
            await client.get_task(GetTaskRequest(id=turn.turn_id))


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        b'{"jsonrpc":"2.0","id":1,"method":"Nothing","params":{}}',
        b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{}}',
        b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"messageId":"m","parts":[]}}}',
        b'{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"messageId":"'
        + b"m" * 100_000
        + b'","role":"ROLE_USER","contextId":"\\u0000","parts":[{"text":"\\u0000"}]}}}',
        b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"T-99999999999999999999"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"../turns"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"SubscribeToTask","params":{"id":"\\u0000"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"CancelTask","params":{"id":""}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ListTasks","params":{}}',
    ],
)
async def test_what_cannot_be_done_is_an_error_in_a2a_terms(door: KernelClient, body: bytes) -> None:
    """Whatever is sent: a JSON-RPC error, and never a broken server."""
    async with offered(door) as url, httpx.AsyncClient(timeout=20) as http:
        headers = {"content-type": "application/json", "A2A-Version": "1.0"}
        answer = await http.post(url, content=body, headers=headers)
    assert answer.status_code < 500
    assert '"error"' in answer.text
    assert "Internal" not in answer.text


# ---------------------------------------------------------------- the card, and both sides together


@frozen
class Order:
    """What is wanted of a bell foundry."""

    count: int


async def test_the_card_has_the_offer_of_the_kind(door: KernelClient, desk: KernelClient) -> None:
    """Read anew each time: published a moment ago, told now, with the schema of the input."""
    worker = Worker(desk)

    @worker.turn("turn.conversation.v1")
    async def order(_: Turn, order: Order) -> int:
        """Casts bells."""
        return order.count

    async with offered(door) as url, httpx.AsyncClient() as http:
        before = await A2ACardResolver(http, url).get_agent_card()
        await publish_offers(worker)
        [skill] = (await A2ACardResolver(http, url).get_agent_card()).skills
    assert (before.name, [skill.id for skill in before.skills]) == ("desk", ["turn.conversation.v1"])
    assert "count" not in before.skills[0].description
    assert (skill.id, "count" in skill.description) == ("turn.conversation.v1", True)


def test_offering_needs_an_agent_that_dispatches() -> None:
    """Said when the application is made, not with the first message."""
    with pytest.raises(UsageError, match="KernelClient"):
        a2a_app(KernelClient("http://127.0.0.1:1"), "desk", url="http://127.0.0.1:2")


async def test_our_two_sides_understand_each_other(
    kernel: LocalKernel, door: KernelClient, desk: KernelClient
) -> None:
    """A turn of one agent is forwarded by A2A to another, and its question comes back as its own."""
    there = Worker(desk, options=OPTIONS)

    @there.turn()
    async def handle(turn: Turn) -> Any:
        city = await turn.ask(str, {"text": "Which city?"}, key="city")
        return {"text": f"Rain in {city}."}

    async with offered(door) as url, await kernel.agent("front") as front:
        here = Worker(front, AdapterHandler(A2AAgent(url)), options=OPTIONS)
        async with working(there), working(here):
            turn = await kernel.dispatch("front", {"text": "Weather?"})
            await in_state(front, turn, "suspended")
            await answer_question(front, turn, "Bern")
            found = await closed(front, turn)
    assert found.final_payload == {"text": "Rain in Bern."}


def _project(client: KernelClient) -> str:
    assert client.agent is not None
    return client.agent.project_id
