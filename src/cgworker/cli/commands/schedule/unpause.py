"""`cg schedule unpause`: let a schedule go on."""

from __future__ import annotations

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import ActingAgent, ProfilesProjectId, ScheduleId, ServerFlags
from cgworker.wire.schedules import Schedule


async def unpause(
    server: ServerFlags,
    schedule_id: ScheduleId,
    project_id: ProfilesProjectId = None,
    agent_id: ActingAgent = None,
) -> Schedule:
    """Let a schedule go on from now; what it missed meanwhile is not made up for."""
    actor = acting_agent(server, project_id, agent_id, command_name="cg schedule unpause")
    async with as_actor(server, actor) as kernel:
        return await kernel.schedules.unpause(schedule_id, requested_by=actor)
