"""`cg agent resume`: let an agent accept work again."""

from __future__ import annotations

from cgworker.cli.accepting import set_accepts_work
from cgworker.cli.options import (
    MaybeRequestedBy,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.cli.results import ResumedAgent
from cgworker.cli.subject_flags import AgentFlags


async def resume(
    server: ServerFlags,
    agent_flags: AgentFlags,
    project_id: ProfilesProjectId = None,
    requested_by: MaybeRequestedBy = None,
) -> ResumedAgent:
    """Let an agent accept work again."""
    actor, snapshot = await set_accepts_work(
        server, agent_flags.id, project_id, requested_by, accepts_work=True
    )
    return ResumedAgent(
        project_id=actor.project_id,
        agent_id=agent_flags.id,
        accepts_work=snapshot.accepts_work,
        requested_by=actor.agent_id,
        snapshot=snapshot,
    )
