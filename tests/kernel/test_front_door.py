"""Who has not shown a credential costs a kernel little, whatever they send; nobody holds up the others."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import orjson
import pytest
from attrs import evolve

from cgworker.errors import InvalidRequest
from cgworker.kernel import offload
from cgworker.kernel.app import Kernel, create_app
from cgworker.kernel.http import parsing
from cgworker.kernel.http.parsing import MAX_INLINE_VALUES, MAX_INSPECTED_VALUES
from cgworker.kernel.http.protocol import MAX_PIPELINED, LimitedHttpProtocol
from cgworker.kernel.http.request import MAX_UNAUTHENTICATED_BYTES, MAX_UNAUTHENTICATED_TOTAL_BYTES, Bodies
from cgworker.kernel.openapi.operation import Operation
from tests.kernel.project import Agent, Project, client_of
from tests.kernel.served import PROJECT, Served, a_served_kernel, its_admission

LARGE = b"[" + b"[]," * 200_000 + b"0]"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def served(dsn: str) -> Iterator[Served]:
    with a_served_kernel(dsn) as served:
        yield served


@pytest.fixture
async def worker(project: Project) -> Agent:
    return await project.agent("worker")


def taking_routes(kernel: Kernel) -> list[Operation]:
    """Every route that takes a body, admission's included."""
    routes = create_app(kernel, its_admission(kernel.config)).routes
    return [route for route in routes if isinstance(route, Operation) and route.takes is not None]


class Endless:
    """A body that never ends, and how much of it was taken."""

    taken = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            self.taken += 4096
            yield b" " * 4096


async def test_no_route_reads_more_of_a_strangers_body_than_its_bound(kernel: Kernel) -> None:
    """Whatever the route: 401, and 413 where nobody says who they are."""
    app = create_app(kernel, its_admission(kernel.config))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://kernel") as client:
        for route in taking_routes(kernel):
            endless, path = Endless(), route.path.replace("{project_id}", PROJECT)
            answer = await client.request(route.method, path, content=endless.chunks(), headers=JSON)
            assert answer.status_code == (401 if route.identify else 413), route.path
            assert endless.taken <= MAX_UNAUTHENTICATED_BYTES + 4096, route.path
    assert kernel.bodies == Bodies()


@pytest.mark.parametrize("verb", ["turns:settle-many", "claims:claim-many", "claims:renew-many"])
async def test_a_large_bulk_request_needs_the_headers_to_say_who_sends_it(worker: Agent, verb: str) -> None:
    """A small one does not: its items say it."""
    url = f"/v3r1/projects/{worker.project.id}/{verb}"
    small, large = b'{"items":[]}', b'{"items":[]}' + b" " * MAX_UNAUTHENTICATED_BYTES
    client = worker.project.client
    assert (await client.post(url, content=small, headers=JSON)).status_code == 200
    assert (await client.post(url, content=large, headers=JSON)).status_code == 401
    assert (await client.post(url, content=large, headers={**JSON, **worker.headers})).status_code == 200


async def test_when_strangers_hold_much_everybody_is_asked_who_they_are(
    kernel: Kernel, project: Project
) -> None:
    """A body of some KiB is then read for known callers alone; where nobody can say it, it has to wait."""
    crowded = evolve(kernel, bodies=Bodies(unauthenticated_bytes=MAX_UNAUTHENTICATED_TOTAL_BYTES))
    worker = await project.agent("worker")
    body = orjson.dumps(worker.dispatching(worker, input="x" * 10_000))
    redeem = orjson.dumps({"join_code": "x" * 10_000})
    app = create_app(crowded, its_admission(kernel.config))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://kernel") as client:
        url = f"/v3r1/projects/{project.id}/turns:dispatch"
        assert (await client.post(url, content=body, headers=JSON)).status_code == 401
        assert (await client.post(url, content=body, headers={**JSON, **worker.headers})).status_code == 200
        answer = await client.post("/admin/v1/agent-joins:redeem", content=redeem, headers=JSON)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert crowded.bodies == Bodies(unauthenticated_bytes=MAX_UNAUTHENTICATED_TOTAL_BYTES)


async def test_the_bodies_under_way_have_a_budget(kernel: Kernel, project: Project) -> None:
    """Above it a large one is refused for now, and what was answered counts no more."""
    config = evolve(kernel.config, max_bodies_bytes=300_000)
    tight = evolve(kernel, config=config, bodies=Bodies())
    async with client_of(tight) as client:
        worker = await Project(tight, client, project.id).agent("worker")
        for _ in range(3):
            assert (await worker.ask(**_dispatch(worker, "x" * 200_000))).status_code == 200
        tight.bodies.authenticated_bytes = 150_000
        answer = await worker.ask(**_dispatch(worker, "x" * 200_000))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert tight.bodies == Bodies(authenticated_bytes=150_000)


async def test_only_bodies_of_few_values_are_parsed_in_the_event_loop(
    worker: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of values decides, not the length: a long text is read at once, many lists are not."""
    seen: list[int] = []

    async def watched(function: Any, *arguments: Any, size_bytes: int) -> Any:
        seen.append(size_bytes)
        return await offload.offload(function, *arguments, size_bytes=size_bytes)

    monkeypatch.setattr(parsing, "offload", watched)
    for part, count in (("x" * 100_000, 1), ([], 100), ("x" * 10_000, 50)):
        await worker.dispatch(worker, input=[part] * count)
    assert seen == []
    for part, count in (([], MAX_INLINE_VALUES), ("x" * 2**21, 1)):
        await worker.dispatch(worker, input=[part] * count)
    assert len(seen) == 2


async def test_a_large_payload_is_what_it_was_wherever_it_is_read(worker: Agent) -> None:
    """As input, record and final payload: each number to its digit, and repeats are known as such."""
    payload = {"kind": "x", "values": [1.5, 2**70, "é", None] * 2_000, "t": "x" * 70_000}
    turn_id = await worker.dispatch(worker, "key", input=payload)
    respelled = dict(reversed(payload.items()))
    assert await worker.dispatch(worker, "key", input=respelled) == turn_id
    other = await worker.ask(**_dispatch(worker, {**payload, "t": "y"}, key="key"))
    assert other.status_code == 409
    claim = await worker.claim()
    keyed = {"Idempotency-Key": "once"}
    first = await worker.append(claim, payload, keyed)
    assert (await worker.append(claim, respelled, keyed)).json() == first.json()
    for _ in range(2):
        assert (await worker.finish(claim, final_payload=payload)).status_code == 200
    context = await worker.get(f"turns/{turn_id}/context")
    found = [item["content"]["cards"][0]["content"]["data"] for item in context["semantic_items"]]
    assert found == [payload] * 3
    assert context["turn"]["final_payload"] == payload


async def test_what_the_kernel_looks_into_holds_so_many_values_at_most(worker: Agent) -> None:
    """Metadata of more is refused by name."""
    body = {"agent": worker.json, "public_metadata": {"x": [0] * MAX_INSPECTED_VALUES}}
    answer = await worker.ask("PUT", "management/agents/worker/public-metadata", body)
    [fault] = answer.json()["detail"]
    assert (answer.status_code, fault["loc"]) == (422, ["body", "public_metadata"])


async def test_the_faults_of_a_large_body_are_told_as_those_of_a_small_one(worker: Agent) -> None:
    """Fifty of them, and how many more."""
    items = [{"agent": worker.json, "credential": "x", **{f"k{n}": 0 for n in range(20)}}] * 1000
    answer = await worker.ask("POST", "claims:claim-many", {"items": items})
    *named, last = answer.json()["detail"]
    assert (answer.status_code, len(named), last["type"]) == (422, 50, "too_many_faults")
    assert len(answer.content) < 10_000


async def test_a_process_beside_that_was_killed_is_replaced() -> None:
    """Whoever asks next does not notice."""
    first = await offload.offload(os.getpid, size_bytes=0)
    os.kill(first, signal.SIGKILL)
    second = await offload.offload(os.getpid, size_bytes=0)
    assert len({first, second, os.getpid()}) == 3


async def test_a_refusal_of_the_process_beside_has_its_faults() -> None:
    """As if it had been raised here."""
    with pytest.raises(InvalidRequest) as refused:
        await offload.offload(parsing.parse_json, b"[" * 300 + b"]" * 300, 200, size_bytes=0)
    assert refused.value.faults[0]["type"] == "recursion_loop"


# ---------------------------------------------------------------- on a socket


@contextmanager
def connected(served: Served, sent: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(sent)
        yield connection


def head_of(length: int, *, path: str = f"/v3r1/projects/{PROJECT}/turns:dispatch") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {length}\r\n\r\n"
    ).encode()


def test_an_unfinished_large_body_of_a_stranger_is_answered_at_once(served: Served) -> None:
    """Forty of them: each is told 401 and that the connection ends, and nothing of them is kept."""
    with ExitStack() as stack:
        opened = [
            stack.enter_context(connected(served, head_of(15 * 2**20) + b"[" * 100_000)) for _ in range(40)
        ]
        for connection in opened:
            answer = connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert b"connection: close" in answer
        while LimitedHttpProtocol.pending_bytes:
            time.sleep(0.01)


def test_a_client_that_sends_on_reads_the_refusal(served: Served) -> None:
    """The connection is not torn down under the answer."""
    url = f"{served.base_url}/v3r1/projects/{PROJECT}/turns:dispatch"
    assert httpx.post(url, content=b" " * 8 * 2**20, headers=JSON, trust_env=False).status_code == 401


def test_what_no_route_has_taken_over_has_an_end(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that do not end, and bodies behind a busy request: with too many the newest are refused."""
    monkeypatch.setattr("cgworker.kernel.http.protocol.MAX_PENDING_BYTES", 200_000)
    unfinished = b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 60_000
    with ExitStack() as stack:
        opened = [stack.enter_context(connected(served, unfinished)) for _ in range(4)]
        assert opened[-1].recv(4096).startswith(b"HTTP/1.1 503 ")
        assert 100_000 < LimitedHttpProtocol.pending_bytes <= 200_000
        assert httpx.get(f"{served.base_url}/healthz", trust_env=False).status_code == 200


def test_a_target_and_the_number_of_headers_have_bounds(served: Served) -> None:
    """Reading thirty thousand parameters, or headers, would hold up everybody."""
    begin = b"GET /v3r1/projects/p/projection/feed"
    for head, status in (
        (b"?" + b"a&" * 30_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", b"414"),
        (b" HTTP/1.1\r\nhost: localhost\r\n" + b"x: y\r\n" * 15_000 + b"\r\n", b"431"),
        (b"?" + b"a&" * 3000 + b" HTTP/1.1\r\nhost: localhost\r\n" + b"x: y\r\n" * 100 + b"\r\n", b"401"),
    ):
        with connected(served, begin + head) as connection:
            assert connection.recv(4096).startswith(b"HTTP/1.1 " + status)


def test_requests_that_come_faster_than_their_answers_have_an_end(served: Served) -> None:
    """Those first in line are answered, in order, and the connection ends with the last of them."""
    request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with connected(served, request * 3000) as connection:
        answers = b""
        while more := connection.recv(2**16):
            answers += more
    assert answers.count(b"HTTP/1.1 200 OK") == answers.count(b"HTTP/1.1 ") == 1 + MAX_PIPELINED
    assert answers.count(b"connection: close") == 1
    with connected(served, request * (1 + MAX_PIPELINED)) as connection:  # so many are no reason to end it
        answers = b""
        while answers.count(b"HTTP/1.1 200 OK") < 1 + MAX_PIPELINED:
            answers += connection.recv(2**16)
        connection.sendall(request)
        assert connection.recv(2**16).startswith(b"HTTP/1.1 200 OK")


def test_a_connection_goes_on_after_a_large_body_that_was_read(served: Served) -> None:
    """It ends only where something of it was left."""
    headers = {**JSON, **served.callers["worker"]}
    url = f"/v3r1/projects/{PROJECT}/turns:dispatch"
    with httpx.Client(base_url=served.base_url, trust_env=False) as client:
        for _ in range(2):
            answer = client.post(url, content=LARGE, headers=headers)
            assert (answer.status_code, answer.headers.get("connection")) == (422, None)


def _dispatch(agent: Agent, input: Any, *, key: str | None = None) -> dict[str, Any]:
    return {"method": "POST", "path": "turns:dispatch", "json": agent.dispatching(agent, key, input=input)}
