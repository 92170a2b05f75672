"""`cg turn get`: a turn."""

from __future__ import annotations

from cgworker.cli.connect import as_reader
from cgworker.cli.options import (
    CallerFlags,
    ProjectId,
    ServerFlags,
    TurnId,
)
from cgworker.cli.results import TurnResult
from cgworker.wire.refs import TurnRef


async def get(server: ServerFlags, caller: CallerFlags, project_id: ProjectId, turn_id: TurnId) -> TurnResult:
    """Show a turn."""
    async with as_reader(server, caller) as kernel:
        return TurnResult.of(await kernel.turns.get(TurnRef(project_id=project_id, turn_id=turn_id)))
