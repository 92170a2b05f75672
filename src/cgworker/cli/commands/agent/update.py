"""`cg agent update`: change an agent's capacity, capabilities and grants."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_admin_service
from cgworker.cli.options import AgentId, Capabilities, Capacity, Flag, Grants, OperatorFlags, ProjectId
from cgworker.errors import UsageError
from cgworker.wire.absent import ABSENT, Absent
from cgworker.wire.agents import AgentSnapshot, UpdateAgent
from cgworker.wire.refs import AgentRef


async def update(
    operator: OperatorFlags,
    project_id: ProjectId,
    agent_id: AgentId,
    capacity: Capacity = None,
    capability: Capabilities = None,
    grant: Grants = None,
    no_capabilities: Annotated[bool, Flag("--no-capabilities", help="Remove all its capabilities.")] = False,
    no_grants: Annotated[bool, Flag("--no-grants", help="Remove all its grants.")] = False,
    enabled: Annotated[
        bool | None,
        Flag(
            "--enable/--disable",
            help="Whether the agent may act; the kernel refuses all requests of a disabled one.",
        ),
    ] = None,
) -> AgentSnapshot:
    """Change an agent's capacity, capabilities and grants. A list replaces the old one."""
    async with as_admin_service(operator, project_id) as kernel:
        assert kernel.agent is not None
        return await kernel.agents.update(
            UpdateAgent(
                agent=AgentRef(project_id=project_id, agent_id=agent_id),
                requested_by=kernel.agent,
                capacity=ABSENT if capacity is None else capacity,
                enabled=ABSENT if enabled is None else enabled,
                capabilities=_replacement("--capability", capability, no_capabilities),
                grants=_replacement("--grant", grant, no_grants),
            )
        )


def _replacement(flag: str, values: list[str] | None, none: bool) -> tuple[str, ...] | Absent:
    if values and none:
        raise UsageError(f"give {flag}, or take all away, not both")
    return tuple(values or ()) if values or none else ABSENT
