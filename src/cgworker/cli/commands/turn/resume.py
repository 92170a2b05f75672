"""`cg turn resume`: queue a suspended turn again."""

from __future__ import annotations

from cgworker.cli.connect import as_actor
from cgworker.cli.options import (
    ProjectId,
    RequestedBy,
    ServerFlags,
    TurnId,
)
from cgworker.cli.results import RequestedTurn
from cgworker.wire.refs import AgentRef, TurnRef


async def resume(
    server: ServerFlags, project_id: ProjectId, turn_id: TurnId, requested_by: RequestedBy
) -> RequestedTurn:
    """Queue a suspended turn again."""
    actor = AgentRef(project_id=project_id, agent_id=requested_by)
    turn = TurnRef(project_id=project_id, turn_id=turn_id)
    async with as_actor(server, actor) as kernel:
        await kernel.turns.resume(turn, requested_by=actor)
        return RequestedTurn.of(await kernel.turns.get(turn), requested_by=requested_by)
