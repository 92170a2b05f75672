"""A response that ends at an exact moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_TICK_SECONDS = 0.0015  # by how much a timer may be late


class HeldResponse(Response):
    """Another response, whose head is sent at once and whose body at a moment.

    The head wakes a client that has waited long, so that it is ready for the body.

    Args:
        response: the other response.
        at: the moment, as a time of the event loop; the body is not sent earlier.
        sent: called when the body has been sent.
    """

    def __init__(self, response: Response, at: float, sent: Callable[[], None] = lambda: None) -> None:
        self.status_code: int = response.status_code
        self.raw_headers: list[tuple[bytes, bytes]] = response.raw_headers
        self.body: bytes | memoryview = response.body
        self._at = at
        self._sent = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # as ASGI calls it
        """Send the response."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            await _until(self._at)
            await send({"type": "http.response.body", "body": self.body})
        finally:
            self._sent()


async def _until(at: float) -> None:
    """Wait until this time of the event loop, to a fraction of a millisecond, and never less."""
    time = asyncio.get_running_loop().time
    await asyncio.sleep(max(0.0, at - time() - _TICK_SECONDS))
    while time() < at:  # noqa: ASYNC110  # no timer is as exact
        await asyncio.sleep(0)
