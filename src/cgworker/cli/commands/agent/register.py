"""`cg agent register`: register an agent without an invite."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_admin_service
from cgworker.cli.options import AgentId, Capabilities, Capacity, Flag, Grants, OperatorFlags, ProjectId
from cgworker.cli.payload import read_json
from cgworker.wire.agents import AgentSnapshot, AgentSpec, Provenance

_PROVENANCE = "operator.cg_agent_register.v1"


async def register(
    operator: OperatorFlags,
    project_id: ProjectId,
    agent_id: AgentId,
    role: Annotated[str, Flag("--role", metavar="ROLE", help="The agent's role.")],
    description: Annotated[
        str | None, Flag("--description", metavar="TEXT", help="What the agent is for, for people.")
    ] = None,
    capacity: Capacity = 1,
    capability: Capabilities = None,
    grant: Grants = None,
    no_work: Annotated[bool, Flag("--no-work", help="Register an agent that takes no turns.")] = False,
    public_metadata_file: Annotated[
        str | None,
        Flag("--public-metadata-file", metavar="FILE", help="Its public metadata as JSON."),
    ] = None,
) -> AgentSnapshot:
    """Register an agent without an invite. `cg agent credential issue` gives it a credential."""
    spec = AgentSpec(
        agent_id=agent_id,
        role=role,
        description=description,
        accepts_work=not no_work,
        capacity=capacity or 1,
        capabilities=tuple(capability or ()),
        grants=tuple(grant or ()),
        public_metadata=read_json(public_metadata_file) if public_metadata_file else {},
    )
    async with as_admin_service(operator, project_id) as kernel:
        provenance = Provenance(kind=_PROVENANCE, external_ref=f"{project_id}/{agent_id}")
        return await kernel.agents.register(project_id, spec, provenance)
