"""`cg agent register` and `cg agent update`: what an agent is born as, decided by the operator."""

from __future__ import annotations

from typing import Annotated

import typer

from cgworker.cli.command import command
from cgworker.cli.connect import as_admin_service
from cgworker.cli.options import AgentId, Capabilities, Capacity, Grants, OperatorFlags, ProjectId
from cgworker.cli.payload import read_json
from cgworker.errors import UsageError
from cgworker.wire.agents import AgentSnapshot, AgentSpec, Provenance, UpdateAgent
from cgworker.wire.converter import ABSENT, Absent
from cgworker.wire.refs import AgentRef

app: typer.Typer = typer.Typer()

_PROVENANCE = "operator.cg_agent_register.v1"


@command(app, "register")
async def register(
    operator: OperatorFlags,
    project_id: ProjectId,
    agent_id: AgentId,
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="What it is for.")],
    description: Annotated[
        str | None, typer.Option("--description", metavar="TEXT", help="The same, for people.")
    ] = None,
    capacity: Capacity = 1,
    capability: Capabilities = None,
    grant: Grants = None,
    no_work: Annotated[bool, typer.Option("--no-work", help="It takes no turns.")] = False,
    public_metadata_file: Annotated[
        str | None,
        typer.Option("--public-metadata-file", metavar="FILE", help="Its public metadata as JSON."),
    ] = None,
) -> AgentSnapshot:
    """Register an agent without an invite. It gets no credential: `cg agent credential issue` does that."""
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


@command(app, "update")
async def update(
    operator: OperatorFlags,
    project_id: ProjectId,
    agent_id: AgentId,
    capacity: Capacity = None,
    capability: Capabilities = None,
    grant: Grants = None,
    no_capabilities: Annotated[
        bool, typer.Option("--no-capabilities", help="Take all its capabilities away.")
    ] = False,
    no_grants: Annotated[bool, typer.Option("--no-grants", help="Take all its rights away.")] = False,
    enabled: Annotated[
        bool | None,
        typer.Option("--enable/--disable", help="Whether it may act at all; a disabled agent can nothing."),
    ] = None,
) -> AgentSnapshot:
    """Change an agent's capacity, capabilities and rights; a list that is given replaces the old one."""
    async with as_admin_service(operator, project_id) as kernel:
        assert kernel.agent is not None
        return await kernel.agents.update(
            UpdateAgent(
                agent=AgentRef(project_id=project_id, agent_id=agent_id),
                requested_by=kernel.agent,
                capacity=ABSENT if capacity is None else capacity,
                enabled=ABSENT if enabled is None else enabled,
                capabilities=_whole("--capability", capability, no_capabilities),
                grants=_whole("--grant", grant, no_grants),
            )
        )


def _whole(flag: str, given: list[str] | None, none: bool) -> tuple[str, ...] | Absent:
    if given and none:
        raise UsageError(f"give {flag}, or take all away, not both")
    return tuple(given or ()) if given or none else ABSENT
