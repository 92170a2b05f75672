"""`cg agent feed` and `cg turn feed`: read a page of events, and hint at more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from cgworker.cli.connect import as_reader
from cgworker.cli.envelope import hint_cut
from cgworker.cli.options import CallerFlags, ServerFlags
from cgworker.cli.progress import SILENT_SECONDS, progress
from cgworker.client import KernelClient
from cgworker.wire.ledger import FeedPage
from cgworker.wire.refs import AgentRef, TurnRef


async def read_feed(
    server: ServerFlags,
    caller: CallerFlags,
    subject: AgentRef | TurnRef,
    limit: int,
    read: Callable[[KernelClient], Awaitable[tuple[FeedPage, bool]]],
) -> FeedPage:
    """Return a page of events; a wait says what for, and a cut page how to go on.

    Args:
        server: the flags.
        caller: who reads.
        subject: whose events.
        limit: the most events.
        read: reads the page, and returns whether there may be more.
    """
    name = subject.agent_id if isinstance(subject, AgentRef) else subject.turn_id
    about = progress(f"waiting for events of {name}", after_seconds=SILENT_SECONDS)
    async with as_reader(server, caller, subject.project_id) as kernel:
        with about:
            page, has_more = await read(kernel)
    after = page.next_after_ledger_seq
    hint_cut(len(page.items), limit, has_more, flag="--after-ledger-seq", after=after)
    return page
