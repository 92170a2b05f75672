"""`cg project turn list`: a project's turns."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_reader
from cgworker.cli.identity import project_of
from cgworker.cli.options import (
    CallerFlags,
    Flag,
    Limit,
    MaybeTurnKind,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.lifecycle import TurnOutcome, TurnState
from cgworker.wire.projections import TurnPage


async def list_turns(
    server: ServerFlags,
    caller: CallerFlags,
    project_id: ProfilesProjectId = None,
    target_agent_id: Annotated[
        str | None,
        Flag("--target-agent-id", metavar="AGENT", help="Only turns of this agent.", completes="taker"),
    ] = None,
    turn_kind: MaybeTurnKind = None,
    state: Annotated[TurnState | None, Flag("--state", help="Only turns in this state.")] = None,
    outcome: Annotated[TurnOutcome | None, Flag("--outcome", help="Only turns with this outcome.")] = None,
    stop_requested_only: Annotated[
        bool, Flag("--stop-requested-only", help="Only turns whose stop is requested.")
    ] = False,
    limit: Limit = None,
) -> TurnPage:
    """List turns, the newest first."""
    project_id = project_of(server, project_id, caller)
    async with as_reader(server, caller, project_id) as kernel:
        return await kernel.projections.turns(
            project_id,
            target_agent_id=target_agent_id,
            turn_kind=turn_kind,
            state=state and state.value,
            outcome=outcome and outcome.value,
            stop_requested_only=stop_requested_only,
            limit=limit,
        )
