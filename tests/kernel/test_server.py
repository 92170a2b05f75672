"""The kernel as a server: it takes a port, says when it is ready, and ends in order."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from attrs import evolve, frozen

from cgworker.errors import UsageError
from cgworker.kernel.app import Kernel, create_app
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.server import KernelServer, bind, serve
from cgworker.kernel.store.postgres.database import Database
from tests.kernel.parked import QUICK_SECONDS, WAIT
from tests.kernel.project import Project


@frozen
class Served:
    """A server in this event loop, and what it serves."""

    server: KernelServer
    serving: asyncio.Task[None]
    project: Project


@asynccontextmanager
async def a_server(
    config: KernelConfig,
    database: Database,
    more: Callable[[Kernel], Sequence[Operation]] = lambda _: (),
    *,
    host: str = "127.0.0.1",
) -> AsyncIterator[Served]:
    listener = bind(host, 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    kernels: list[Kernel] = []
    ready: asyncio.Future[KernelServer] = asyncio.get_running_loop().create_future()

    async def more_routes(kernel: Kernel) -> Sequence[Operation]:
        kernels.append(kernel)
        return more(kernel)

    serving = asyncio.create_task(
        serve(config, database, listener, more_routes=more_routes, ready=ready.set_result)
    )
    server = await ready
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield Served(server, serving, Project(kernels[0], client))
        server.stop()
        await serving


async def test_it_serves_from_when_it_says_so(config: KernelConfig, database: Database) -> None:
    """The first request after `ready` is answered."""
    async with a_server(config, database) as served:
        assert (await served.project.client.get("/healthz")).status_code == 200


async def test_an_answer_comes_in_one_piece(config: KernelConfig, database: Database) -> None:
    """Its head does not wake the client before the body is there."""
    async with a_server(config, database) as served:
        url = served.project.client.base_url
        for answer in await asyncio.to_thread(_first_pieces, url.host, url.port or 80, 300):
            assert answer.endswith(b"}"), answer


def _first_pieces(host: str, port: int, count: int) -> list[bytes]:
    """What arrives first of each answer, by a client that is awake all the time."""
    with socket.create_connection((host, port), timeout=10) as connection:
        answers = []
        for _ in range(count):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            answers.append(connection.recv(65536))
        return answers


async def test_a_body_that_never_ends_is_408(config: KernelConfig, database: Database) -> None:
    """Also behind a request on the same connection whose body came at once."""
    async with a_server(evolve(config, max_body_seconds=0.3), database) as served:
        url = served.project.client.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        head = f"POST /v3r1/projects/{served.project.id}/turns:dispatch HTTP/1.1\r\nhost: localhost\r\n"
        writer.write(f"{head}content-length: 2\r\n\r\n{{}}{head}content-length: 9\r\n\r\n{{".encode())
        answers = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"422", b"408"]


async def test_a_stop_answers_who_waits(config: KernelConfig, database: Database) -> None:
    """All waiting requests are answered at once, and the server ends without waiting for idle connections."""
    async with a_server(config, database) as served:
        worker = await served.project.agent("worker")
        waiting = asyncio.create_task(worker.claim(WAIT))
        while not served.project.kernel.notifier.waiting_count:  # noqa: ASYNC110  # nobody tells that one waits
            await asyncio.sleep(0.005)
        served.server.stop()
        async with asyncio.timeout(QUICK_SECONDS):
            assert await waiting is None
            await served.serving


def test_a_port_that_is_taken_is_told_in_one_line() -> None:
    """Who starts a second server hears which port it was and what to do."""
    with bind("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}: .*choose another port"):
            bind("127.0.0.1", port)


def test_an_address_that_is_not_ours_is_told() -> None:
    """The same for an address of another machine."""
    with pytest.raises(UsageError, match=r"cannot listen on 192\.0\.2\.1:"):
        bind("192.0.2.1", 0)


async def test_a_server_that_begins_a_lifespan_is_answered(kernel: Kernel) -> None:
    """The kernel's own server has none, and another program's may; Starlette's router answers it."""
    asked = iter(["lifespan.startup", "lifespan.shutdown"])
    answers: list[str] = []

    async def receive() -> dict[str, str]:
        return {"type": next(asked)}

    async def send(message: MutableMapping[str, Any]) -> None:
        answers.append(message["type"])

    await create_app(kernel)({"type": "lifespan"}, receive, send)
    assert answers == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
