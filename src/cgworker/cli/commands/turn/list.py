"""`cg turn list`: a project's turns, the newest first."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_reader
from cgworker.cli.identity import project_of
from cgworker.cli.options import (
    CallerFlags,
    Flag,
    MaybeTurnKind,
    ProfilesProjectId,
    ServerFlags,
    TargetAgent,
)
from cgworker.lifecycle import TurnOutcome, TurnState
from cgworker.wire.projections import TurnPage


async def list_turns(
    server: ServerFlags,
    caller: CallerFlags,
    target_agent: TargetAgent = None,
    turn_kind: MaybeTurnKind = None,
    state: Annotated[TurnState | None, Flag("--state", help="Only turns in this state.")] = None,
    outcome: Annotated[TurnOutcome | None, Flag("--outcome", help="Only turns with this outcome.")] = None,
    limit: Annotated[int, Flag("--limit", min=1, max=500, metavar="N", help="Show at most N.")] = 20,
    project_id: ProfilesProjectId = None,
) -> TurnPage:
    """List turns, the newest first."""
    project_id = project_of(server, project_id, caller)
    async with as_reader(server, caller, project_id) as kernel:
        return await kernel.projections.turns(
            project_id,
            target_agent_id=target_agent,
            turn_kind=turn_kind,
            state=state and state.value,
            outcome=outcome and outcome.value,
            limit=limit,
        )
