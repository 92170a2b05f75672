"""Open what a run of a worker needs, and decide before each claim whether to claim."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import anyio

from cgworker.client import KernelClient
from cgworker.events import Listener, logger
from cgworker.handlers import Handler
from cgworker.handlers.folder import FolderUnwritable
from cgworker.lease import Interruption
from cgworker.turn import Turn
from cgworker.worker.context import RunContext
from cgworker.worker.disk_space import Room
from cgworker.worker.handler_call import wrap_handler
from cgworker.worker.lifespan import open_lifespan
from cgworker.worker.options import WorkerOptions
from cgworker.worker.outbox.outbox import Outbox
from cgworker.worker.routing import Middleware, Routes

OpenLifespan = Callable[[], AbstractAsyncContextManager[Mapping[str, Any] | None]]


@asynccontextmanager
async def open_context(  # noqa: PLR0913  # everything that the attempts share
    *,
    kernel: KernelClient,
    routes: Routes,
    lifespan: OpenLifespan | None,
    room: Room,
    options: WorkerOptions,
    listener: Listener | None,
    hears_turns: bool,
    shared_slots: anyio.Semaphore | None,
    middleware: tuple[Middleware, ...],
    on_claimed: Callable[[Turn], Awaitable[None]] | None,
    on_interrupted: Callable[[Turn, Interruption], Awaitable[None]] | None,
) -> AsyncIterator[RunContext]:
    """Yield what the attempts of a run share, with the lifespan entered and everything checked.

    Args:
        kernel: the worker's client of the kernel.
        routes: the handlers by turn kind.
        lifespan: makes the worker's lifespan; None if it has none.
        room: watches the disk of the outbox.
        options: the worker's options.
        listener: gets the events of the run; None if the worker has none.
        hears_turns: whether it is to get those of single turns.
        shared_slots: the slots that several workers share; None if this one has its own.
        middleware: runs around every handler, the first one outermost.
        on_claimed: called before each attempt, if there is one.
        on_interrupted: called when a handler is being ended, if there is one.

    Raises:
        CommandNotFound: the command of a command handler is missing.
        UsageError: there is no handler, one lacks a resource, or a folder cannot be written.
    """
    room.check()
    async with (
        _open_routes(routes, lifespan) as opened,
        _closing(kernel.with_own_connections()) as renewing,
    ):
        yield RunContext(
            kernel=kernel,
            renewing=renewing,
            routes=opened,
            wrapped=opened.mapped(lambda handler: wrap_handler(handler, middleware)),
            outbox=Outbox(options.outbox_folder, max_bytes=options.outbox_max_bytes, on_trouble=room.note),
            room=room,
            options=options,
            listener=listener,
            hears_turns=hears_turns,
            shared_slots=shared_slots,
            on_claimed=on_claimed,
            on_interrupted=on_interrupted,
        )


@asynccontextmanager
async def _open_routes(routes: Routes, lifespan: OpenLifespan | None) -> AsyncIterator[Routes]:
    """Yield the routes with the resources of the lifespan, checked before anything is claimed."""
    async with AsyncExitStack() as stack:
        if lifespan is not None:
            routes = routes.with_resources(await stack.enter_async_context(open_lifespan(lifespan())))
        routes.check()
        staying: dict[int, Handler] = {
            id(handler): await stack.enter_async_context(opened())
            for handler in routes.handlers
            if (opened := getattr(handler, "opened", None)) is not None
        }
        yield routes.mapped(lambda handler: staying.get(id(handler), handler))


@asynccontextmanager
async def _closing(kernel: KernelClient) -> AsyncIterator[KernelClient]:
    try:
        yield kernel
    finally:
        with anyio.CancelScope(shield=True):
            await kernel.aclose()


def may_claim(context: RunContext, select: Callable[[], bool] | None) -> bool:
    """Whether the worker may claim now: it has disk space, its handlers can run, and a slot is free.

    Args:
        context: what the attempts of the worker share.
        select: the user's `Worker.select`, if there is one. An exception that it raises is logged and counts
            as False.

    Raises:
        CommandNotFound: the command of a command handler is missing.
        UsageError: a handler cannot run any more.
    """
    context.outbox.report_failures()
    if not context.room.has_room():
        return False
    try:
        for check in context.checks:
            check()
    except FolderUnwritable as unwritable:  # it was writable before the first claim
        context.room.note(unwritable.trouble)
        return False
    if context.shared_slots is not None and context.shared_slots.value == 0:
        return False
    if select is None:
        return True
    try:
        return select()
    except KeyboardInterrupt:
        raise
    except BaseException:
        logger.exception("%r failed: nothing is claimed until it works", select)
        return False
