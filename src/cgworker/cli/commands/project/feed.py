"""`cg project feed`: the ledger's events of a project."""

from __future__ import annotations

from cgworker.cli.connect import as_reader
from cgworker.cli.identity import project_of
from cgworker.cli.options import (
    AfterLedgerSeq,
    CallerFlags,
    FollowSeconds,
    Limit,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.cli.progress import SILENT_SECONDS, progress
from cgworker.wire.projections import EventPage


async def feed(
    server: ServerFlags,
    caller: CallerFlags,
    project_id: ProfilesProjectId = None,
    after_ledger_seq: AfterLedgerSeq = 0,
    limit: Limit = None,
    wait_seconds: FollowSeconds = 0,
) -> EventPage:
    """Show the events of a project."""
    project_id = project_of(server, project_id, caller)
    async with as_reader(server, caller, project_id) as kernel:
        with progress(f"waiting for events of {project_id}", after_seconds=SILENT_SECONDS):
            return await kernel.projections.feed(
                project_id, after_ledger_seq=after_ledger_seq, limit=limit, wait_seconds=wait_seconds
            )
