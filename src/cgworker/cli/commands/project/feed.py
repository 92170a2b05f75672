"""`cg project feed`: the ledger's events of a project."""

from __future__ import annotations

from cgworker.cli.connect import as_reader
from cgworker.cli.options import (
    AfterLedgerSeq,
    CallerFlags,
    FollowSeconds,
    Limit,
    ProjectId,
    ServerFlags,
)
from cgworker.wire.projections import EventPage


async def feed(
    server: ServerFlags,
    caller: CallerFlags,
    project_id: ProjectId,
    after_ledger_seq: AfterLedgerSeq = 0,
    limit: Limit = None,
    wait_seconds: FollowSeconds = 0,
) -> EventPage:
    """Show the events of a project."""
    async with as_reader(server, caller) as kernel:
        return await kernel.projections.feed(
            project_id, after_ledger_seq=after_ledger_seq, limit=limit, wait_seconds=wait_seconds
        )
