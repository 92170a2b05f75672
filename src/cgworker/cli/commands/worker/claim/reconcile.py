"""`cg worker claim reconcile`: queue turns again whose leases have ended."""

from __future__ import annotations

from cgworker.cli.connect import as_claim_holder
from cgworker.cli.options import AgentId, ProjectId, ServerFlags
from cgworker.wire.claims import Reconciled
from cgworker.wire.refs import AgentRef


async def reconcile(server: ServerFlags, project_id: ProjectId, agent_id: AgentId) -> Reconciled:
    """Queue the agent's turns again whose leases have ended. A cgworker kernel does this by itself."""
    agent = AgentRef(project_id=project_id, agent_id=agent_id)
    async with as_claim_holder(server, agent) as kernel:
        return await kernel.claims.reconcile_expired(agent)
