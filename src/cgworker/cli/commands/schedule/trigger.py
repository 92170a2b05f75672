"""`cg schedule trigger`: dispatch a schedule's turn now."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import ActingAgent, Flag, ProfilesProjectId, ScheduleId, ServerFlags
from cgworker.cli.schedule_results import TriggeredTurn


async def trigger(
    server: ServerFlags,
    schedule_id: ScheduleId,
    key: Annotated[
        str | None,
        Flag("--key", metavar="KEY", help="Names the dispatch: repeating the command gives the same turn."),
    ] = None,
    project_id: ProfilesProjectId = None,
    agent_id: ActingAgent = None,
) -> TriggeredTurn:
    """Dispatch a schedule's turn now, also while it is paused."""
    actor = acting_agent(server, project_id, agent_id, command_name="cg schedule trigger")
    async with as_actor(server, actor) as kernel:
        turn = await kernel.schedules.trigger(schedule_id, requested_by=actor, key=key)
    return TriggeredTurn(project_id=turn.project_id, turn_id=turn.turn_id, schedule_id=schedule_id)
