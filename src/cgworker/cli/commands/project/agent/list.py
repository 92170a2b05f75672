"""`cg project agent list`: a project's agents."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_reader
from cgworker.cli.identity import project_of
from cgworker.cli.options import (
    AcceptsWorkOnly,
    CallerFlags,
    EnabledOnly,
    Flag,
    Limit,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.wire.projections import AgentPage


async def list_agents(
    server: ServerFlags,
    caller: CallerFlags,
    project_id: ProfilesProjectId = None,
    enabled_only: EnabledOnly = False,
    accepts_work_only: AcceptsWorkOnly = False,
    role: Annotated[str | None, Flag("--role", metavar="ROLE", help="Only agents with this role.")] = None,
    capability: Annotated[
        str | None, Flag("--capability", metavar="KIND", help="Only agents with this capability.")
    ] = None,
    limit: Limit = None,
) -> AgentPage:
    """List agents, ordered by id."""
    project_id = project_of(server, project_id, caller)
    async with as_reader(server, caller, project_id) as kernel:
        return await kernel.projections.agents(
            project_id,
            enabled_only=enabled_only,
            accepts_work_only=accepts_work_only,
            role=role,
            capability=capability,
            limit=limit,
        )
