"""`cg turn stop`: request that a turn stops."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_actor
from cgworker.cli.options import (
    Flag,
    ProjectId,
    RequestedBy,
    ServerFlags,
    TurnId,
)
from cgworker.cli.results import RequestedTurn
from cgworker.wire.meta import Meta
from cgworker.wire.refs import AgentRef, TurnRef


async def stop(
    server: ServerFlags,
    project_id: ProjectId,
    turn_id: TurnId,
    requested_by: RequestedBy,
    reason: Annotated[
        str | None, Flag("--reason", metavar="TEXT", help="The reason, for the ledger.")
    ] = None,
) -> RequestedTurn:
    """Request that a turn stops. The worker that runs it sees the request, and closes the turn."""
    actor = AgentRef(project_id=project_id, agent_id=requested_by)
    turn = TurnRef(project_id=project_id, turn_id=turn_id)
    async with as_actor(server, actor) as kernel:
        await kernel.turns.stop(turn, requested_by=actor, meta=Meta(reason=reason) if reason else None)
        return RequestedTurn.of(await kernel.turns.get(turn), requested_by=requested_by)
