"""`cg project offer list`: what a project's agents offer to do."""

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
    MaybeTurnKind,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.wire.projections import OfferPage


async def list_offers(
    server: ServerFlags,
    caller: CallerFlags,
    project_id: ProfilesProjectId = None,
    turn_kind: MaybeTurnKind = None,
    agent_id: Annotated[
        str | None, Flag("--agent-id", metavar="AGENT", help="Only offers of this agent.")
    ] = None,
    enabled_only: EnabledOnly = False,
    accepts_work_only: AcceptsWorkOnly = False,
    limit: Limit = None,
) -> OfferPage:
    """List the offers of agents: the kinds of turns that they say they can do."""
    project_id = project_of(server, project_id, caller)
    async with as_reader(server, caller, project_id) as kernel:
        return await kernel.projections.turn_offers(
            project_id,
            turn_kind=turn_kind,
            agent_id=agent_id,
            enabled_only=enabled_only,
            accepts_work_only=accepts_work_only,
            limit=limit,
        )
