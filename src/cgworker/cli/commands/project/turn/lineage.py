"""`cg project turn lineage`: a turn and the turns dispatched from it."""

from __future__ import annotations

from cgworker.cli.connect import as_reader
from cgworker.cli.options import (
    CallerFlags,
    Limit,
    ProjectId,
    ServerFlags,
    TurnId,
)
from cgworker.wire.projections import Lineage


async def lineage(
    server: ServerFlags,
    caller: CallerFlags,
    project_id: ProjectId,
    turn_id: TurnId,
    limit: Limit = None,
) -> Lineage:
    """Show a turn and the turns dispatched from it."""
    async with as_reader(server, caller) as kernel:
        return await kernel.projections.lineage(project_id, turn_id, limit=limit)
