"""`cg agent credential list`: an agent's credentials."""

from __future__ import annotations

from cgworker.cli.connect import as_admin_service
from cgworker.cli.options import AgentId, OperatorFlags, ProjectId
from cgworker.wire.credentials import Credentials
from cgworker.wire.refs import AgentRef


async def list_credentials(operator: OperatorFlags, project_id: ProjectId, agent_id: AgentId) -> Credentials:
    """List an agent's credentials, including revoked ones."""
    async with as_admin_service(operator, project_id) as kernel:
        agent = AgentRef(project_id=project_id, agent_id=agent_id)
        return Credentials(credentials=await kernel.credentials.all_of(agent))
