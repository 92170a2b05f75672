"""`cg turn get`: a turn."""

from __future__ import annotations

from cgworker.cli.connect import as_reader
from cgworker.cli.identity import project_of
from cgworker.cli.options import (
    CallerFlags,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.cli.results import TurnResult
from cgworker.cli.subject_flags import TurnFlags
from cgworker.wire.refs import TurnRef


async def get(
    server: ServerFlags, caller: CallerFlags, turn_flags: TurnFlags, project_id: ProfilesProjectId = None
) -> TurnResult:
    """Show a turn."""
    turn = TurnRef(project_id=project_of(server, project_id, caller), turn_id=turn_flags.id)
    async with as_reader(server, caller, turn.project_id) as kernel:
        return TurnResult.of(await kernel.turns.get(turn))
