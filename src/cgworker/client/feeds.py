"""The feeds of a turn and of an agent (wire 6.3), page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cgworker.wire.converter import structure_answer
from cgworker.wire.ledger import FeedPage

if TYPE_CHECKING:
    from cgworker.client.kernel import KernelClient


async def read_feed_page(
    kernel: KernelClient, path: str, *, after_ledger_seq: int, limit: int, wait_seconds: float
) -> tuple[FeedPage, bool]:
    """Return a page of events, and whether there may be more.

    There may be more if the page is full, or if the kernel cut it for its size (difference 11).

    Args:
        kernel: makes the call.
        path: the path of the feed.
        after_ledger_seq: return only events with a higher number.
        limit: the most events to return.
        wait_seconds: how long the kernel may wait for a first event; 0 does not wait.
    """
    answer = await kernel.send(
        "GET",
        path,
        query={"after_ledger_seq": after_ledger_seq, "limit": limit},
        wait_seconds=wait_seconds,
    )
    page = structure_answer(FeedPage, answer.body)
    return page, answer.has_more(len(page.items), limit)
