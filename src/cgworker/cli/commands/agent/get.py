"""`cg agent get`: an agent."""

from __future__ import annotations

from cgworker.cli.connect import as_reader
from cgworker.cli.options import (
    AgentId,
    CallerFlags,
    ProjectId,
    ServerFlags,
)
from cgworker.cli.results import AgentResult
from cgworker.wire.refs import AgentRef


async def get(
    server: ServerFlags, caller: CallerFlags, project_id: ProjectId, agent_id: AgentId
) -> AgentResult:
    """Show an agent."""
    async with as_reader(server, caller) as kernel:
        snapshot = await kernel.agents.get(AgentRef(project_id=project_id, agent_id=agent_id))
    return AgentResult(
        project_id=project_id,
        agent_id=agent_id,
        role=snapshot.role,
        description=snapshot.description,
        enabled=snapshot.enabled,
        accepts_work=snapshot.accepts_work,
        snapshot=snapshot,
    )
