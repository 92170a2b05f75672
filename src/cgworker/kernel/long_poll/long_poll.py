"""`Prefer: wait=N` (RFC 7240, difference 7): a request that waits for news instead of asking again.

Waiting holds no database connection. A waiter whose client hung up does nothing more, and when the kernel
shuts down all are answered at once.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request

from cgworker.kernel.http.bodies import CLIENT_GONE

T = TypeVar("T")

_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d+)\"?(?=\s*(?:[,;]|$))", re.IGNORECASE)
_REPRESENTATION = re.compile(r"return\s*=\s*\"?representation\"?", re.IGNORECASE)
_RECHECK_SECONDS = 10.0


class Preferences:
    """What a request prefers, of what its route can do.

    Args:
        waits: the route can wait for news.
        represents: the route can show a claim with its context.

    Attributes:
        wait_seconds: how long it may wait, capped by the kernel; None if it did not say.
        wants_representation: whether a claim should bring its context (difference 8).
    """

    def __init__(self, request: Request, *, waits: bool = True, represents: bool = False) -> None:
        said = ",".join(request.headers.getlist("prefer"))
        most = request.app.state.kernel.config.max_wait_seconds
        wait = _WAIT.search(said) if waits else None
        self.wait_seconds: float | None = min(float(wait[1]), most) if wait else None
        self.wants_representation: bool = represents and _REPRESENTATION.search(said) is not None

    def applied(self) -> dict[str, str]:
        """The header that says which of them were honoured."""
        honoured = []
        if self.wait_seconds is not None:
            honoured.append(f"wait={self.wait_seconds:g}")
        if self.wants_representation:
            honoured.append("return=representation")
        return {"preference-applied": ", ".join(honoured)} if honoured else {}


async def until_woken(woken: asyncio.Event, seconds: float) -> None:
    """Wait for a wake-up, or until the time is over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await woken.wait()


async def long_poll(
    request: Request,
    topics: Iterable[str],
    read: Callable[[], Awaitable[T]],
    *,
    is_new: Callable[[T], bool],
    wait_seconds: float | None,
    pause: Callable[[asyncio.Event, float], Awaitable[T | None]] = until_woken,
    check: Callable[[], Awaitable[None]] | None = None,
) -> T:
    """Look, and as long as there is no news and time is left, wait for a wake-up and look again.

    Args:
        pause: waits for the event for so many seconds at most; may give what was to be looked for.
        check: refuses a caller who may not look any more, as a new request would be refused. It is asked
            when there is news after a wait; None where `look` and `pause` see to it themselves.
    """
    if not wait_seconds:
        return await read()
    notifier = request.app.state.kernel.notifier
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_seconds
    has_waited = False
    with notifier.waiting(topics) as woken:
        gone = asyncio.ensure_future(_hung_up(request))
        gone.add_done_callback(lambda _: woken.set())
        try:
            while True:
                if gone.done():
                    raise HTTPException(CLIENT_GONE, "the client hung up")
                woken.clear()
                found = await read()
                left = deadline - loop.time()
                if has_waited and check is not None and is_new(found):
                    await check()
                if is_new(found) or left <= 0 or notifier.is_closing:
                    return found
                given = await pause(woken, min(left, _RECHECK_SECONDS))
                has_waited = True
                if given is not None:
                    return given
        finally:
            gone.cancel()


async def _hung_up(request: Request) -> None:
    """Returns when the client has gone; its body has been read by then."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
