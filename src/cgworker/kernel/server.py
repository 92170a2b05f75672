"""The kernel as a server: a socket, uvicorn, and a shutdown that answers every waiting request."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from cgworker.errors import UsageError
from cgworker.kernel.addresses import is_loopback
from cgworker.kernel.app import Kernel, create_app, open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.http.protocol import LimitedHttpProtocol
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.store.postgres.database import Database

logger: logging.Logger = logging.getLogger("cgworker.kernel")

Routes = Sequence[Operation]
MoreRoutes = Callable[[Kernel], Awaitable[Routes]]


def bind(host: str, port: int) -> socket.socket:
    """Bind a socket to listen on.

    Args:
        host: the address.
        port: the port; 0 takes a free one.

    Raises:
        UsageError: the address is in use, or is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Name the protocol, or asyncio leaves Nagle's algorithm on and each response waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as taken:
        listener.close()
        raise UsageError(
            f"cannot listen on {host}:{port}: {taken.strerror}; stop what uses it or choose another port"
        ) from taken
    listener.set_inheritable(True)
    return listener


class KernelServer(uvicorn.Server):
    """uvicorn with the kernel's shutdown: waiting requests are answered before connections are closed."""

    def __init__(self, config: uvicorn.Config, kernel: Kernel, ready: Callable[[KernelServer], None]) -> None:
        super().__init__(config)
        self.kernel = kernel
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer requests, and call `ready`."""
        await super().startup(sockets)
        self._ready(self)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # a signal handler
        """Shut down on SIGTERM or SIGINT; a second signal does not wait for connections.

        uvicorn's own handler raises the signal again at the end; an orderly shutdown must not.
        """
        self.kernel.notifier.close()
        self.force_exit: bool = self.should_exit
        self.should_exit = True

    def stop(self) -> None:
        """Shut down as for a signal; call it in the server's own event loop."""
        self.handle_exit(signal.SIGTERM, None)


async def serve(
    config: KernelConfig,
    database: Database,
    listener: socket.socket,
    *,
    more_routes: MoreRoutes | None = None,
    has_kernel_routes: bool = True,
    wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    ready: Callable[[KernelServer], None] = lambda _: None,
) -> None:
    """Serve a kernel on a migrated database until it is told to stop.

    Args:
        config: the kernel's settings.
        database: a migrated database.
        listener: the socket from `bind`; it is closed at the end.
        more_routes: makes routes besides the kernel's own, such as the admission service's.
        has_kernel_routes: False omits the kernel's own routes, except health and description.
        wrap: wraps the application, such as in faults for tests.
        ready: called once requests are answered.
    """
    async with AsyncExitStack() as stack:
        kernel = await stack.enter_async_context(open_kernel(config, database))
        routes = await more_routes(kernel) if more_routes else ()
        hosts = _hosts_of(config, listener)
        app = wrap(create_app(kernel, routes, has_kernel_routes=has_kernel_routes, hosts=hosts))
        server = KernelServer(_uvicorn_config(config, app), kernel, ready)
        try:
            await server.serve(sockets=[listener])
        finally:
            listener.close()


def _hosts_of(config: KernelConfig, listener: socket.socket) -> Collection[str] | None:
    """Return the host names to answer to; None answers to every name, on an address that is not loopback."""
    is_open = not config.allowed_hosts and not is_loopback(listener.getsockname()[0])
    return None if is_open else config.allowed_hosts


def _uvicorn_config(config: KernelConfig, app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=LimitedHttpProtocol,
        ws="none",
        log_level=config.log_level,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,  # uvicorn would believe X-Forwarded-For from loopback; see addresses.py
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,
    )
