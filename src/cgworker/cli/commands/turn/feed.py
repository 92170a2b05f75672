"""`cg turn feed`: the ledger's events about a turn."""

from __future__ import annotations

from cgworker.cli.feeds import read_feed
from cgworker.cli.identity import project_of
from cgworker.cli.options import (
    AfterLedgerSeq,
    CallerFlags,
    FollowSeconds,
    PageLimit,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.cli.subject_flags import TurnFlags
from cgworker.wire.ledger import FeedPage
from cgworker.wire.refs import TurnRef


async def feed(
    server: ServerFlags,
    caller: CallerFlags,
    turn_flags: TurnFlags,
    project_id: ProfilesProjectId = None,
    after_ledger_seq: AfterLedgerSeq = 0,
    limit: PageLimit = 100,
    wait_seconds: FollowSeconds = 0,
) -> FeedPage:
    """Show the events of a turn."""
    turn = TurnRef(project_id=project_of(server, project_id, caller), turn_id=turn_flags.id)
    return await read_feed(
        server,
        caller,
        turn,
        limit,
        lambda kernel: kernel.turns.feed_page(
            turn, after_ledger_seq=after_ledger_seq, limit=limit, wait_seconds=wait_seconds
        ),
    )
