"""`cg agent drain`: let an agent accept no more work."""

from __future__ import annotations

from cgworker.cli.accepting import set_accepts_work
from cgworker.cli.options import (
    MaybeRequestedBy,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.cli.results import DrainedAgent
from cgworker.cli.subject_flags import AgentFlags


async def drain(
    server: ServerFlags,
    agent_flags: AgentFlags,
    project_id: ProfilesProjectId = None,
    requested_by: MaybeRequestedBy = None,
) -> DrainedAgent:
    """Let an agent accept no more work; turns that are queued already stay queued."""
    actor, snapshot = await set_accepts_work(
        server, agent_flags.id, project_id, requested_by, accepts_work=False
    )
    return DrainedAgent(
        project_id=actor.project_id,
        agent_id=agent_flags.id,
        accepts_work=snapshot.accepts_work,
        requested_by=actor.agent_id,
        snapshot=snapshot,
    )
