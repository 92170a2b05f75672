"""`cg agent list`: the agents of a project."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_reader
from cgworker.cli.identity import project_of
from cgworker.cli.options import (
    AcceptsWorkOnly,
    CallerFlags,
    EnabledOnly,
    Flag,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.wire.projections import AgentPage


async def list_agents(
    server: ServerFlags,
    caller: CallerFlags,
    capability: Annotated[
        str | None,
        Flag(
            "--capability", metavar="KIND", help="Only agents that take this kind of turn.", completes="kind"
        ),
    ] = None,
    enabled_only: EnabledOnly = False,
    accepts_work_only: AcceptsWorkOnly = False,
    limit: Annotated[int, Flag("--limit", min=1, max=500, metavar="N", help="Show at most N.")] = 100,
    project_id: ProfilesProjectId = None,
) -> AgentPage:
    """List agents, ordered by id."""
    project_id = project_of(server, project_id, caller)
    async with as_reader(server, caller, project_id) as kernel:
        return await kernel.projections.agents(
            project_id,
            capability=capability,
            enabled_only=enabled_only,
            accepts_work_only=accepts_work_only,
            limit=limit,
        )
