"""`cg agent get`: an agent."""

from __future__ import annotations

from cgworker.cli.connect import as_reader
from cgworker.cli.identity import project_of
from cgworker.cli.options import (
    CallerFlags,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.cli.results import AgentResult
from cgworker.cli.subject_flags import AgentFlags
from cgworker.wire.refs import AgentRef


async def get(
    server: ServerFlags, caller: CallerFlags, agent_flags: AgentFlags, project_id: ProfilesProjectId = None
) -> AgentResult:
    """Show an agent."""
    agent = AgentRef(project_id=project_of(server, project_id, caller), agent_id=agent_flags.id)
    async with as_reader(server, caller, agent.project_id) as kernel:
        snapshot = await kernel.agents.get(agent)
    return AgentResult(
        project_id=agent.project_id,
        agent_id=agent.agent_id,
        role=snapshot.role,
        description=snapshot.description,
        enabled=snapshot.enabled,
        accepts_work=snapshot.accepts_work,
        snapshot=snapshot,
    )
