"""Serve MCP over streamable HTTP: each caller has a bearer, and acts as an agent."""

from __future__ import annotations

import hashlib
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cgworker.adapters.mcp_server import mcp_server
from cgworker.client import KernelClient
from cgworker.client.turns import require_agent
from cgworker.errors import UsageError

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_KERNEL = "cgworker.kernel"  # where a request's scope holds its caller's client
_CLOSING_SECONDS = 1  # streams of older clients stay open for ever


def mcp_app(
    kernel: KernelClient,
    *,
    bearer: str | None = None,
    callers: Mapping[str, KernelClient] | None = None,
    allowed_hosts: Sequence[str] = (),
    allowed_origins: Sequence[str] = (),
    path: str = "/mcp",
    max_bytes: int = 4 * 1024 * 1024,
) -> Starlette:
    """Make an application that offers the agents of a project to MCP clients, each as a tool.

    Serve it with `uvicorn.run(mcp_app(kernel, bearer=...))`, or mount it and run its lifespan. Every request
    needs a bearer, which says as which agent its caller acts: that agent dispatches the turns, and sees its
    own as tasks. It needs the grants `turn.resume.any` for answers and `turn.stop.any` for cancelling.

    Args:
        kernel: makes the calls of callers that present `bearer`. The caller of this function closes it.
        bearer: the secret with which callers act as the agent of `kernel`; None for none.
        callers: further secrets, each with the client of the agent that its owner acts as.
        allowed_hosts: host names that the application answers to, besides loopback names.
        allowed_origins: origins of web pages that may call it, such as `https://app.example`, besides those
            of loopback names.
        path: the path of the application.
        max_bytes: the largest body of a request; a larger one gets a 413.

    Raises:
        UsageError: the caller's fault: there is no bearer, an empty one, or a client without an agent.
    """
    clients = {**({} if bearer is None else {bearer: kernel}), **(callers or {})}
    if not clients or not all(clients):
        raise UsageError("MCP over HTTP needs a bearer that is not empty: mcp_app(kernel, bearer=...)")
    for client in (kernel, *clients.values()):
        require_agent(client)
    hosts = [*_LOOPBACK, *allowed_hosts]
    app: Starlette = mcp_server(_caller_of).streamable_http_app(
        streamable_http_path=path,
        max_request_body_size=max_bytes,
        transport_security=TransportSecuritySettings(
            allowed_hosts=[name for host in hosts for name in (host, f"{host}:*")],
            allowed_origins=[
                *(f"http://{host}{port}" for host in _LOOPBACK for port in ("", ":*")),
                *allowed_origins,
            ],
        ),
    )
    app.add_middleware(_BearerMiddleware, clients=clients)
    return app


class _BearerMiddleware:
    """Refuses callers without a known bearer before their body is read (401); stores the others' client.

    Args:
        app: the application behind.
        clients: the clients by bearer.
    """

    def __init__(self, app: ASGIApp, clients: Mapping[str, KernelClient]) -> None:
        self._app = app
        self._clients = {_digest(bearer): client for bearer, client in clients.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; see ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        kind, _, bearer = Headers(scope=scope).get("authorization", "").partition(" ")
        # Digests are looked up, so that the time it takes tells nothing about a secret.
        kernel = self._clients.get(_digest(bearer.strip())) if kind.lower() == "bearer" else None
        if kernel is None:
            headers = {"WWW-Authenticate": "Bearer", "Connection": "close"}
            return await PlainTextResponse("a known bearer is needed", 401, headers)(scope, receive, send)
        # A session of an older client belongs to the caller who began it: the SDK compares the user.
        token = AccessToken(token="", client_id=str(kernel.agent), scopes=[])
        return await self._app({**scope, _KERNEL: kernel, "user": AuthenticatedUser(token)}, receive, send)


def _caller_of(ctx: Any) -> KernelClient:
    kernel: KernelClient = ctx.request.scope[_KERNEL]
    return kernel


def _digest(bearer: str) -> bytes:
    return hashlib.sha256(bearer.encode()).digest()


class _OrderlyServer(uvicorn.Server):
    """A server that ends in order on SIGTERM or SIGINT, without raising the signal again."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # a signal handler
        """Shut down; a second signal does not wait for connections."""
        self.force_exit = self.should_exit
        self.should_exit = True


async def serve_http(app: Any, host: str, port: int) -> None:
    """Serve an application until SIGTERM or SIGINT.

    Args:
        app: the application.
        host: the address to listen on.
        port: the port; 0 takes a free one, which is told on stderr.

    Raises:
        UsageError: the address cannot be used.
    """
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as taken:
        raise UsageError(f"cannot listen on {host}:{port}: {taken.strerror}; choose another port") from taken
    with listener:
        address = f"[{host}]" if ":" in host else host
        with suppress(OSError):  # stderr may be on a disk that is full
            sys.stderr.write(f"Serving MCP at http://{address}:{listener.getsockname()[1]}/mcp\n")
        config = uvicorn.Config(
            app, log_level="warning", ws="none", timeout_graceful_shutdown=_CLOSING_SECONDS
        )
        await _OrderlyServer(config).serve([listener])
