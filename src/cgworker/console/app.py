"""`console_app`: the console as a Starlette application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from cgworker.client import KernelClient
from cgworker.console import live, login, refusals
from cgworker.console.console import Console
from cgworker.console.pages import PAGE_ROUTES
from cgworker.console.request_guard import RequestGuard
from cgworker.console.session import Sessions

_STATIC = Path(__file__).parent / "static"


def console_app(kernel: KernelClient) -> Starlette:
    """Make the console as an application to mount in your own, behind your own login.

    It shows the project of the client's agent, and acts with that agent's rights. It has no login: everyone
    who can reach it may use it. It runs on asyncio. It begins to follow the project's feed at its first
    request, and goes on until the event loop ends.

    Args:
        kernel: a client with an agent. The caller closes it.

    Returns:
        The application, for `Mount("/console", console_app(kernel))`.

    Raises:
        UsageError: the caller's fault: the client has no agent.
    """
    return make_app(kernel, Sessions(needs_link=False), hosts=None)


def make_app(kernel: KernelClient, sessions: Sessions, *, hosts: Collection[str] | None) -> Starlette:
    """Make the console.

    Args:
        kernel: a client with an agent.
        sessions: who may see it.
        hosts: the values of `Host` to answer to; None answers to all.

    Raises:
        UsageError: the caller's fault: the client has no agent.
    """
    console = Console.of(kernel)
    app = Starlette(
        routes=[
            *PAGE_ROUTES,
            *live.routes,
            *login.routes,
            Mount("/static", StaticFiles(directory=_STATIC), name="static"),
        ],
        middleware=[
            Middleware(RequestGuard, sessions=sessions, hosts=hosts),
            Middleware(_StartsFeed, console=console),
        ],
        exception_handlers=refusals.HANDLERS,
        lifespan=_lifespan,
    )
    app.state.console = console
    app.state.sessions = sessions
    return app


class _StartsFeed:
    """ASGI middleware that starts to follow the feed: a mounted application has no lifespan of its own."""

    def __init__(self, app: ASGIApp, *, console: Console) -> None:
        self._app = app
        self._console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._console.start()
            scope["console_version"] = self._console.feed.version  # of what the page will show, at least
        await self._app(scope, receive, send)


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    yield
    await app.state.console.stop()
