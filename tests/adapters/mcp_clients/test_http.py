"""The MCP server over streamable HTTP: bearers, hosts, sizes, and clients that leave."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import uvicorn
from anyio.streams.buffered import BufferedByteReceiveStream

pytest.importorskip("mcp_types", reason="mcp 2.3 is not installed here: `make test-mcp` runs these tests")

from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPError

from cgworker import KernelClient, UsageError
from cgworker.adapters.mcp_http import mcp_app
from cgworker.private import replace_private
from cgworker.testing import LocalKernel
from tests.adapters.mcp_clients.test_calls import BOTH_ERAS, answering, ended, text_in, the_turn
from tests.adapters.mcp_clients.test_tasks import Tasks, about, begun
from tests.journeys.conftest import in_state
from tests.test_examples import home_of

pytestmark = pytest.mark.usefixtures("desk")


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    },
}
AS_CLIENT = {"accept": "application/json, text/event-stream"}


def bearing(secret: str) -> dict[str, str]:
    """The header with a bearer."""
    return {"authorization": f"Bearer {secret}"}


@asynccontextmanager
async def served(door: KernelClient, **how: Any) -> AsyncIterator[str]:
    """The application on a port of its own; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = mcp_app(door, **{"bearer": "s3cret", **how})
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listening])
            while not server.started:  # noqa: ASYNC110  # uvicorn tells nobody
                await anyio.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
            server.should_exit = True


@asynccontextmanager
async def client_at(
    url: str, bearer: str = "s3cret", mode: str = "auto", **how: Any
) -> AsyncIterator[Client]:
    """A client that presents a bearer."""
    headers = {"Authorization": f"Bearer {bearer}"}
    async with (
        create_mcp_http_client(headers=headers) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode, **how) as client,
    ):
        yield client


@BOTH_ERAS
async def test_a_call_over_http_is_a_turn(door: KernelClient, mode: str) -> None:
    """With a question that the client is asked in between."""
    async with served(door) as url:
        user = answering({"answer": 3})
        async with client_at(url, mode=mode, elicitation_callback=user) as client:
            called = await client.call_tool("desk__turn_ship_v1", {})
    assert called.structured_content == {"shipped": 3}


async def test_each_bearer_acts_as_its_agent_and_sees_its_own_tasks(
    kernel: LocalKernel, door: KernelClient
) -> None:
    """A task of one caller is not there for another."""
    async with await kernel.agent("hatch") as hatch, served(door, callers={"other": hatch}) as url:
        tasks = Tasks()
        async with client_at(url, extensions=[tasks]) as client:
            task_id = await begun(client, tasks, "desk__turn_wait_v1")
        async with client_at(url, bearer="other", extensions=[Tasks()]) as client:
            with pytest.raises(MCPError, match="not found"):
                await about(client, "cancel", task_id)
            await client.call_tool("desk__turn_story_v1", {})
    events = (await door.projections.feed(kernel.project_id, limit=500)).items
    assert {"door", "hatch"} <= {each.actor_id for each in events if each.event_type == "turn.spawned"}


async def test_a_session_belongs_to_the_caller_who_began_it(kernel: LocalKernel, door: KernelClient) -> None:
    """Its id alone is no right to use it."""
    async with (
        await kernel.agent("hatch") as hatch,
        served(door, callers={"other": hatch}) as url,
        httpx.AsyncClient() as http,
    ):
        opened = await http.post(url, json=INITIALIZE, headers={**AS_CLIENT, **bearing("s3cret")})
        session = {"mcp-session-id": opened.headers["mcp-session-id"]}
        listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        theirs = await http.post(url, json=listing, headers={**AS_CLIENT, **bearing("other"), **session})
    assert theirs.status_code == 404


async def test_who_is_not_known_is_refused_before_the_body_is_read(door: KernelClient) -> None:
    """Also one who announces a huge body and sends none of it."""
    async with served(door) as url, httpx.AsyncClient(timeout=10) as http:
        for header in ({}, bearing("wrong"), {"authorization": "Bearer"}, {"authorization": "Basic s3cret"}):
            refused = await http.post(url, json=INITIALIZE, headers={**AS_CLIENT, **header})
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        port = httpx.URL(url).port
        async with await anyio.connect_tcp("127.0.0.1", port or 0) as stream:
            await stream.send(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9999999999\r\n\r\n")
            with anyio.fail_after(60):
                assert (await stream.receive()).startswith(b"HTTP/1.1 401 ")


async def test_a_web_page_of_another_host_or_origin_is_refused(door: KernelClient) -> None:
    """A name that resolves to this machine, or a page that calls it from a browser; those named may."""
    named = {"allowed_hosts": ["mcp.example"], "allowed_origins": ["https://app.example"]}
    async with served(door, **named) as url, httpx.AsyncClient() as http:
        for header, status in (
            ({"host": "evil.example"}, 421),
            ({"origin": "https://evil.example"}, 403),
            ({"host": "mcp.example", "origin": "https://app.example"}, 200),
            ({"origin": "http://localhost:3000"}, 200),
        ):
            headers = {**AS_CLIENT, **bearing("s3cret"), **header}
            assert (await http.post(url, json=INITIALIZE, headers=headers)).status_code == status, header


async def test_a_body_that_is_too_large_or_no_message_is_refused(door: KernelClient) -> None:
    """And the server serves on."""
    async with served(door, max_bytes=10_000) as url, httpx.AsyncClient() as http:
        headers = {**AS_CLIENT, **bearing("s3cret"), "content-type": "application/json"}
        modern = {"mcp-protocol-version": "2026-07-28"}
        for more in ({}, modern):
            large = await http.post(url, content=b'"' + b"x" * 20_000 + b'"', headers={**headers, **more})
            assert large.status_code == 413
            for body in (b"", b"{", b"[" * 9_000, b'{"jsonrpc": 3}', b"\xff\xfe"):
                broken = await http.post(url, content=body, headers={**headers, **more})
                assert broken.status_code == 400, body
        assert (await http.post(url, json=INITIALIZE, headers=headers)).status_code == 200


async def test_over_http_of_2026_a_client_cancels_by_closing_its_connection(
    kernel: LocalKernel, door: KernelClient
) -> None:
    """That is how that protocol says it; the turn is stopped."""
    async with served(door) as url, client_at(url) as client, anyio.create_task_group() as group:
        group.start_soon(client.call_tool, "desk__turn_wait_v1", {})
        await in_state(door, await the_turn(kernel, door, "turn.wait.v1"), "running")
        group.cancel_scope.cancel()
    assert (await ended(kernel, door, "turn.wait.v1")).outcome == "stopped"


async def test_a_server_that_ends_stops_no_turn(kernel: LocalKernel, door: KernelClient) -> None:
    """Its clients did not cancel; the turns go on, and can be answered."""
    async with anyio.create_task_group() as group:

        async def call(url: str) -> None:
            with pytest.RaisesGroup(Exception, flatten_subgroups=True, allow_unwrapped=True):
                async with client_at(url) as client:
                    await client.call_tool("desk__turn_wait_v1", {})

        async with served(door) as url:
            group.start_soon(call, url)
            turn = await the_turn(kernel, door, "turn.wait.v1")
            await in_state(door, turn, "running")
        assert not (await door.turns.get(turn)).stop_requested


async def test_an_application_without_a_bearer_is_not_made(kernel: LocalKernel, door: KernelClient) -> None:
    """Nobody could call it, or everybody."""
    wrong: list[dict[str, Any]] = [{}, {"bearer": ""}, {"callers": {"": door}}]
    for how in wrong:
        with pytest.raises(UsageError, match="bearer"):
            mcp_app(door, **how)
    async with KernelClient(kernel.base_url) as nobody:
        with pytest.raises(UsageError, match="agent"):
            mcp_app(nobody, bearer="s3cret")


async def test_cg_mcp_serve_serves_each_caller_as_its_profile(
    kernel: LocalKernel, door: KernelClient, tmp_path: Path
) -> None:
    """By flags as in the page; it ends in order."""
    async with await kernel.agent("hatch") as hatch:
        home = home_of(tmp_path, door, hatch)
        for name in ("door", "hatch"):
            replace_private(tmp_path / f"{name}.secret", f"{name}-s3cret\n")
        words = ["mcp", "serve", "--profile", "cg-demo/door", "--port", "0", "--bearer-file", "door.secret"]
        argv = [sys.executable, "-m", "cgworker", *words, "--caller", "cg-demo/hatch=hatch.secret"]
        env = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
        async with await anyio.open_process(argv, cwd=tmp_path, env=env, stdout=None) as server:
            assert server.stderr is not None
            line = await BufferedByteReceiveStream(server.stderr).receive_until(b"\n", 1000)
            url = line.decode().rpartition(" ")[2]
            for bearer in ("door-s3cret", "hatch-s3cret"):
                async with client_at(url, bearer=bearer) as client:
                    assert text_in(await client.call_tool("desk__turn_story_v1", {})) == "The end."
            server.terminate()
            with anyio.fail_after(60):
                assert await server.wait() == 0
    events = (await door.projections.feed(kernel.project_id, limit=500)).items
    assert [e.actor_id for e in events if e.event_type == "turn.spawned"] == ["door", "hatch"]
