"""`cg agent credential revoke`: revoke a credential."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_admin_service
from cgworker.cli.options import AgentId, Flag, OperatorFlags, ProjectId
from cgworker.wire.credentials import RevokedCredential
from cgworker.wire.refs import AgentRef


async def revoke(
    operator: OperatorFlags,
    project_id: ProjectId,
    agent_id: AgentId,
    credential_id: Annotated[
        str, Flag("--credential-id", metavar="CREDENTIAL", help="The credential (cred_...).")
    ],
) -> RevokedCredential:
    """Revoke a credential. Every kernel refuses it from the next request on."""
    agent = AgentRef(project_id=project_id, agent_id=agent_id)
    async with as_admin_service(operator, project_id) as kernel:
        return RevokedCredential(credential=await kernel.credentials.revoke(agent, credential_id))
