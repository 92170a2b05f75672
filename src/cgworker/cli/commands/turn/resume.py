"""`cg turn resume`: queue a suspended turn again."""

from __future__ import annotations

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import (
    ProfilesAgent,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.cli.results import RequestedTurn
from cgworker.cli.subject_flags import TurnFlags
from cgworker.wire.refs import TurnRef


async def resume(
    server: ServerFlags,
    turn_flags: TurnFlags,
    project_id: ProfilesProjectId = None,
    requested_by: ProfilesAgent = None,
) -> RequestedTurn:
    """Queue a suspended turn again."""
    actor = acting_agent(
        server, project_id, requested_by, command_name="cg turn resume", agent_flag="--requested-by"
    )
    turn = TurnRef(project_id=actor.project_id, turn_id=turn_flags.id)
    async with as_actor(server, actor) as kernel:
        await kernel.turns.resume(turn, requested_by=actor)
        return RequestedTurn.of(await kernel.turns.get(turn), requested_by=actor.agent_id)
