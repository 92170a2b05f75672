"""`cg agent drain`: let an agent accept no more work."""

from __future__ import annotations

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import project_of
from cgworker.cli.options import (
    MaybeRequestedBy,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.cli.results import DrainedAgent
from cgworker.cli.subject_flags import AgentFlags
from cgworker.profiles import non_blank
from cgworker.wire.refs import AgentRef


async def drain(
    server: ServerFlags,
    which: AgentFlags,
    project_id: ProfilesProjectId = None,
    requested_by: MaybeRequestedBy = None,
) -> DrainedAgent:
    """Let an agent accept no more work; turns that are queued already stay queued."""
    agent = AgentRef(project_id=project_of(server, project_id), agent_id=which.id)
    actor = AgentRef(project_id=agent.project_id, agent_id=non_blank(requested_by) or agent.agent_id)
    async with as_actor(server, actor) as kernel:
        await kernel.agents.drain(agent, requested_by=actor)
        snapshot = await kernel.agents.get(agent)
    return DrainedAgent(
        project_id=agent.project_id,
        agent_id=agent.agent_id,
        accepts_work=snapshot.accepts_work,
        requested_by=actor.agent_id,
        snapshot=snapshot,
    )
