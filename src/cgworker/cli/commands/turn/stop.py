"""`cg turn stop`: request that a turn stops."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import (
    Flag,
    ProfilesAgent,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.cli.results import RequestedTurn
from cgworker.cli.subject_flags import TurnFlags
from cgworker.wire.meta import Meta
from cgworker.wire.refs import TurnRef


async def stop(
    server: ServerFlags,
    turn_flags: TurnFlags,
    reason: Annotated[
        str | None, Flag("--reason", metavar="TEXT", help="The reason, for the ledger.")
    ] = None,
    project_id: ProfilesProjectId = None,
    requested_by: ProfilesAgent = None,
) -> RequestedTurn:
    """Request that a turn stops. The worker that runs it sees the request, and closes the turn."""
    actor = acting_agent(
        server, project_id, requested_by, command_name="cg turn stop", agent_flag="--requested-by"
    )
    turn = TurnRef(project_id=actor.project_id, turn_id=turn_flags.id)
    async with as_actor(server, actor) as kernel:
        await kernel.turns.stop(turn, requested_by=actor, meta=Meta(reason=reason) if reason else None)
        return RequestedTurn.of(await kernel.turns.get(turn), requested_by=actor.agent_id)
