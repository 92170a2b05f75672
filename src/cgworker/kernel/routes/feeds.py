"""The feeds of a turn and of an agent (wire 6.3): events page by page, or when there are some."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import frozen
from starlette.responses import Response

from cgworker.kernel.access import long_poll_as_reader
from cgworker.kernel.http.messages import int_field, next_page, read_query, reply
from cgworker.kernel.http.request import Request
from cgworker.kernel.long_poll.long_poll import Preferences
from cgworker.wire.ledger import FeedPage


@frozen(kw_only=True)
class FeedQuery:
    """After which event to start, and how many."""

    after_ledger_seq: int = 0
    limit: int = int_field(100, minimum=0)


async def feed_response(
    request: Request,
    project_id: str,
    topic: str,
    read: Callable[[FeedQuery], Awaitable[tuple[FeedPage, bool]]],
) -> Response:
    """Answer with a page of events, at once, or when there are some.

    Args:
        request: the request.
        project_id: the project, whose agents alone may read.
        topic: what wakes a request that waits.
        read: reads the page, and returns whether it was cut for its size.
    """
    query, preferences = read_query(request, FeedQuery), Preferences(request)
    page, is_cut = await long_poll_as_reader(
        request,
        project_id,
        [topic],
        lambda: read(query),
        is_new=lambda found: bool(found[0].items) or query.limit == 0,
        wait_seconds=preferences.wait_seconds,
    )
    headers = preferences.applied()
    if is_cut:
        headers |= next_page(request, "after_ledger_seq", page.next_after_ledger_seq)
    return reply(page, headers=headers)
