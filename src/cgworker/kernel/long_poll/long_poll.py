"""Long polling: a request with `Prefer: wait=N` (RFC 7240, difference 7) waits for a change.

A waiting request holds no database connection. It ends when its client disconnects. When the kernel shuts
down, all waiting requests are answered at once.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from starlette.exceptions import HTTPException

from cgworker.kernel.http.request import CLIENT_GONE, Request

T = TypeVar("T")

_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d+)\"?(?=\s*(?:[,;]|$))", re.IGNORECASE)
_REPRESENTATION = re.compile(r"return\s*=\s*\"?representation\"?", re.IGNORECASE)
RECHECK_SECONDS = 10.0
"""How often a waiting request looks by itself: a NOTIFY may get lost."""


class Preferences:
    """The request's `Prefer` header, limited to what its route supports.

    Args:
        request: the request.
        waits: whether the route supports `wait=N`.
        represents: whether the route supports `return=representation`.

    Attributes:
        wait_seconds: how long the request may wait, capped by the kernel; None without a preference.
        wants_representation: whether a claim should bring its context (difference 8).
    """

    def __init__(self, request: Request, *, waits: bool = True, represents: bool = False) -> None:
        said = b",".join([value for name, value in request.scope["headers"] if name == b"prefer"]).decode(
            "latin-1"
        )
        most = request.kernel.config.max_wait_seconds
        wait = _WAIT.search(said) if waits else None
        self.wait_seconds: float | None = min(float(wait[1]), most) if wait else None
        self.wants_representation: bool = represents and _REPRESENTATION.search(said) is not None

    def applied(self) -> dict[str, str]:
        """Return the header that names the preferences that were honoured."""
        honoured = []
        if self.wait_seconds is not None:
            honoured.append(f"wait={self.wait_seconds:g}")
        if self.wants_representation:
            honoured.append("return=representation")
        return {"preference-applied": ", ".join(honoured)} if honoured else {}


async def until_woken(woken: asyncio.Event, seconds: float) -> None:
    """Wait for a wake-up, at most so many seconds."""
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
    """Read until the result is new or the time is over; wait for a wake-up between two reads.

    Args:
        request: the request; its client's disconnect ends the wait.
        topics: the topics whose changes wake it.
        read: reads the state to answer with.
        is_new: whether a result answers the request.
        wait_seconds: how long to wait in all; None or 0 reads once.
        pause: waits for the event, at most so many seconds; may return the answer itself.
        check: refuses a caller that has lost its permission meanwhile, as a new request would be. It runs
            before a new result is returned after a wait; None if `read` and `pause` check that themselves.

    Raises:
        HTTPException: 499, the client disconnected.
        CommonGroundError: raised by `read`, `pause` or `check`.
    """
    if not wait_seconds:
        return await read()
    notifier = request.kernel.notifier
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_seconds
    has_waited = False
    with notifier.waiting(topics) as woken:
        gone = asyncio.ensure_future(hung_up(request))
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
                given = await pause(woken, min(left, notifier.recheck_seconds))
                has_waited = True
                if given is not None:
                    return given
        finally:
            gone.cancel()


async def hung_up(request: Request) -> None:
    """Return when the client disconnects. The body must have been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
