"""Stop the turn of a call that its client cancels; one whose client or server is merely gone goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp.server.lowlevel import Server
from mcp_types import CancelledNotificationParams

_NOTICE_SECONDS = 0.5  # the notice is handled a moment after the call is cancelled
_STOP_SECONDS = 10.0


class Cancelling:
    """Tells calls that were cancelled from those that ended with the connection or the server."""

    def __init__(self) -> None:
        self._notices: dict[tuple[str, str], anyio.Event] = {}

    def add_to(self, server: Server[Any]) -> None:
        """Have a server hand over the notices of its clients.

        Args:
            server: the server.
        """
        server.add_notification_handler(
            "notifications/cancelled", CancelledNotificationParams, self._take_notice
        )

    async def _take_notice(self, ctx: Any, params: CancelledNotificationParams) -> None:
        if (notice := self._notices.get(_name_of(ctx, params.request_id))) is not None:
            notice.set()

    @asynccontextmanager
    async def stopping(self, ctx: Any, stop: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Call `stop` if the client cancels its request while the block runs.

        Args:
            ctx: the context of the request.
            stop: stops the turn; it has 10 seconds.
        """
        name = _name_of(ctx, ctx.request_id)
        notice = self._notices[name] = anyio.Event()
        try:
            yield
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(_STOP_SECONDS, shield=True):
                if await _is_cancelled(ctx, notice):
                    await stop()
            raise
        finally:
            self._notices.pop(name, None)


def _name_of(ctx: Any, request_id: Any) -> tuple[str, str]:
    session = ctx.request.headers.get("mcp-session-id", "") if ctx.request is not None else ""
    return session, str(request_id)


async def _is_cancelled(ctx: Any, notice: anyio.Event) -> bool:
    """Return True for a notice of the client, or for its closed connection, which is the notice over HTTP."""
    if ctx.request is not None and await ctx.request.is_disconnected():
        return True
    with anyio.move_on_after(_NOTICE_SECONDS):
        await notice.wait()
    return notice.is_set()
