"""`cg agent drain`: let an agent accept no more work."""

from __future__ import annotations

from cgworker.cli.connect import as_actor
from cgworker.cli.options import (
    AgentId,
    MaybeRequestedBy,
    ProjectId,
    ServerFlags,
)
from cgworker.cli.results import DrainedAgent
from cgworker.profiles import non_blank
from cgworker.wire.refs import AgentRef


async def drain(
    server: ServerFlags, project_id: ProjectId, agent_id: AgentId, requested_by: MaybeRequestedBy = None
) -> DrainedAgent:
    """Let an agent accept no more work; turns that are queued already stay queued."""
    agent = AgentRef(project_id=project_id, agent_id=agent_id)
    actor = AgentRef(project_id=project_id, agent_id=non_blank(requested_by) or agent_id)
    async with as_actor(server, actor) as kernel:
        await kernel.agents.drain(agent, requested_by=actor)
        snapshot = await kernel.agents.get(agent)
    return DrainedAgent(
        project_id=project_id,
        agent_id=agent_id,
        accepts_work=snapshot.accepts_work,
        requested_by=actor.agent_id,
        snapshot=snapshot,
    )
