"""`cg schedule list`: the schedules of a project."""

from __future__ import annotations

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import ActingAgent, ProfilesProjectId, ServerFlags
from cgworker.cli.schedule_results import Schedules


async def list_all(
    server: ServerFlags, project_id: ProfilesProjectId = None, agent_id: ActingAgent = None
) -> Schedules:
    """List the schedules of the project, ordered by id."""
    actor = acting_agent(server, project_id, agent_id, command_name="cg schedule list")
    async with as_actor(server, actor) as kernel:
        found = [schedule async for schedule in kernel.schedules.all(actor.project_id)]
    return Schedules(project_id=actor.project_id, items=tuple(found))
