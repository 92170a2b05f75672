"""`cg agent resume`: let an agent accept work again."""

from __future__ import annotations

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import project_of
from cgworker.cli.options import (
    MaybeRequestedBy,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.cli.results import ResumedAgent
from cgworker.cli.subject_flags import AgentFlags
from cgworker.profiles import non_blank
from cgworker.wire.refs import AgentRef


async def resume(
    server: ServerFlags,
    which: AgentFlags,
    project_id: ProfilesProjectId = None,
    requested_by: MaybeRequestedBy = None,
) -> ResumedAgent:
    """Let an agent accept work again."""
    agent = AgentRef(project_id=project_of(server, project_id), agent_id=which.id)
    actor = AgentRef(project_id=agent.project_id, agent_id=non_blank(requested_by) or agent.agent_id)
    async with as_actor(server, actor) as kernel:
        await kernel.agents.resume(agent, requested_by=actor)
        snapshot = await kernel.agents.get(agent)
    return ResumedAgent(
        project_id=agent.project_id,
        agent_id=agent.agent_id,
        accepts_work=snapshot.accepts_work,
        requested_by=actor.agent_id,
        snapshot=snapshot,
    )
