"""`cg project turn lineage`: a turn and the turns dispatched from it."""

from __future__ import annotations

from cgworker.cli.connect import as_reader
from cgworker.cli.identity import project_of
from cgworker.cli.options import (
    CallerFlags,
    Limit,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.cli.subject_flags import TurnFlags
from cgworker.wire.projections import Lineage


async def lineage(
    server: ServerFlags,
    caller: CallerFlags,
    turn_flags: TurnFlags,
    project_id: ProfilesProjectId = None,
    limit: Limit = None,
) -> Lineage:
    """Show a turn and the turns dispatched from it."""
    project_id = project_of(server, project_id, caller)
    async with as_reader(server, caller, project_id) as kernel:
        return await kernel.projections.lineage(project_id, turn_flags.id, limit=limit)
