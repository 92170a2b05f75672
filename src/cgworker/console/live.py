"""Tell a tab by server-sent events when it should load its page anew, and whether the kernel answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import anyio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from cgworker.console.console import Console, console_of

_BEAT_SECONDS = 15.0  # a comment that shows the browser, and a proxy, that the stream lives
# Between two events: longer while changes go on, so that a busy project costs little. Tabs with the same
# pause wake together, so that they share what is read.
_PAUSES_SECONDS = (1.0, 2.0, 6.0)
_TURN_PAUSES_SECONDS = (0.3,)


async def live(request: Request) -> Response:
    """Stream an event `state` now, and one `changed` after each change."""
    turn_id = request.query_params.get("turn")
    return StreamingResponse(_events(console_of(request), turn_id), media_type="text/event-stream")


async def _events(console: Console, turn_id: str | None) -> AsyncIterator[str]:
    subscription = console.feed.subscribe(turn_id)
    pauses = _TURN_PAUSES_SECONDS if turn_id else _PAUSES_SECONDS
    pause, change_count = 0.0, 0
    try:
        yield _event("state", console)
        while True:
            asked_at = anyio.current_time()
            if await subscription.wait(_BEAT_SECONDS):
                yield _event("changed", console)
                is_calm = anyio.current_time() - asked_at > pause
                change_count = 1 if is_calm else change_count + 1
                pause = pauses[min(change_count, len(pauses)) - 1]
                await anyio.sleep(pause - anyio.current_time() % pause)
            else:
                yield ": beat\n\n"
    finally:
        console.feed.unsubscribe(subscription)


def _event(name: str, console: Console) -> str:
    told = {"trouble": console.feed.trouble, "version": console.feed.version}
    return f"event: {name}\ndata: {json.dumps(told)}\n\n"


routes: list[Route] = [Route("/live", live)]
