"""Serve a console on loopback until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import anyio
import uvicorn

from cgworker.client import KernelClient
from cgworker.console.app import make_app
from cgworker.console.session import Sessions
from cgworker.errors import UsageError

_HOST = "127.0.0.1"


class _AnnouncingServer(uvicorn.Server):
    """uvicorn that says when it answers, and ends in order if it is cancelled, too."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def main_loop(self) -> None:
        try:
            await super().main_loop()
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await self.shutdown()
            raise


async def serve_console(kernel: KernelClient, *, port: int, ready: Callable[[str], None]) -> None:
    """Serve a console on loopback until SIGINT or SIGTERM.

    Args:
        kernel: a client with an agent, whose rights are the console's.
        port: the port; 0 takes a free one.
        ready: called with the one-time link once the console answers.

    Raises:
        UsageError: the port is in use, or the client has no agent.
    """
    with _bind(port) as listener:
        port = listener.getsockname()[1]
        sessions = Sessions(needs_link=True)
        app = make_app(kernel, sessions, hosts={f"{_HOST}:{port}", f"localhost:{port}"})
        config = uvicorn.Config(
            app,
            access_log=False,  # it would have the token of the link
            log_level="warning",
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,  # the streams of open tabs have no end
        )
        link = f"http://{_HOST}:{port}/login?token={sessions.new_link_token()}"
        await _AnnouncingServer(config, lambda: ready(link)).serve(sockets=[listener])


def _bind(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port))
    except OSError as taken:
        listener.close()
        raise UsageError(
            f"cannot listen on {_HOST}:{port}: {taken.strerror}; stop what uses it or choose another --port"
        ) from taken
    return listener
