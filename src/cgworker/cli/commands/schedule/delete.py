"""`cg schedule delete`: delete a schedule."""

from __future__ import annotations

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import ActingAgent, ProfilesProjectId, ScheduleId, ServerFlags
from cgworker.cli.schedule_results import DeletedSchedule


async def delete(
    server: ServerFlags,
    schedule_id: ScheduleId,
    project_id: ProfilesProjectId = None,
    agent_id: ActingAgent = None,
) -> DeletedSchedule:
    """Delete a schedule. The turns that it has dispatched stay."""
    actor = acting_agent(server, project_id, agent_id, command_name="cg schedule delete")
    async with as_actor(server, actor) as kernel:
        await kernel.schedules.delete(actor.project_id, schedule_id)
    return DeletedSchedule(project_id=actor.project_id, schedule_id=schedule_id)
