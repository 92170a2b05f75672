"""`cg schedule pause`: let a schedule do nothing for a while."""

from __future__ import annotations

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import ActingAgent, ProfilesProjectId, ScheduleId, ServerFlags
from cgworker.wire.schedules import Schedule


async def pause(
    server: ServerFlags,
    schedule_id: ScheduleId,
    project_id: ProfilesProjectId = None,
    agent_id: ActingAgent = None,
) -> Schedule:
    """Let a schedule dispatch nothing until it is unpaused."""
    actor = acting_agent(server, project_id, agent_id, command_name="cg schedule pause")
    async with as_actor(server, actor) as kernel:
        return await kernel.schedules.pause(schedule_id, requested_by=actor)
