"""`cg schedule show`: one schedule as it stands."""

from __future__ import annotations

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import ActingAgent, ProfilesProjectId, ScheduleId, ServerFlags
from cgworker.wire.schedules import Schedule


async def show(
    server: ServerFlags,
    schedule_id: ScheduleId,
    project_id: ProfilesProjectId = None,
    agent_id: ActingAgent = None,
) -> Schedule:
    """Show a schedule: what it dispatches, when next, and what it dispatched last."""
    actor = acting_agent(server, project_id, agent_id, command_name="cg schedule show")
    async with as_actor(server, actor) as kernel:
        return await kernel.schedules.get(actor.project_id, schedule_id)
