"""A proxy in front of a server that nobody can put faults into: it loses what it is told to lose."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import httpx
import uvicorn
from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cgworker.kernel.server import bind
from cgworker.testing.faults import Faults
from cgworker.wire.refs import TurnRef

_END_SECONDS = 10.0
_OF_THE_CONNECTION = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding"}


@frozen
class Proxy:
    """Where it listens, and what goes wrong there."""

    url: str
    faults: Faults


@contextmanager
def proxy_to(target: str) -> Iterator[Proxy]:
    """Pass requests on to a server while the block runs, faults first."""
    faults = Faults(_cannot_end_lease)
    client = httpx.AsyncClient(base_url=target, timeout=60, verify=False)
    config = uvicorn.Config(
        faults.wrap(_forward(client)), log_level="critical", lifespan="off", ws="none", loop="asyncio"
    )
    server = uvicorn.Server(config)

    async def serve() -> None:
        async with client:
            await server.serve(sockets=[listener])

    with bind("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=anyio.run, args=[serve])
        thread.start()
        try:
            yield Proxy(f"http://127.0.0.1:{listener.getsockname()[1]}", faults)
        finally:
            server.should_exit = True
            thread.join(_END_SECONDS)


async def _cannot_end_lease(turn: TurnRef) -> None:
    raise NotImplementedError(f"the lease of {turn} can only be waited for: the server is not ours")


def _forward(client: httpx.AsyncClient) -> ASGIApp:
    async def forward(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        headers = {name: text for name, text in request.headers.items() if name not in _OF_THE_CONNECTION}
        answer = await client.request(
            request.method,
            request.url.path,
            params=request.query_params,
            content=await request.body(),
            headers=headers,
        )
        kind = answer.headers.get("content-type")
        await Response(answer.content, answer.status_code, media_type=kind)(scope, receive, send)

    return forward
