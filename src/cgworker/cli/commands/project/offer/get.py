"""`cg project offer get`: one agent's offer for one kind of turn."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_reader
from cgworker.cli.identity import project_of
from cgworker.cli.offers import only_offer
from cgworker.cli.options import (
    AgentId,
    CallerFlags,
    Flag,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.wire.projections import OfferEntry


async def get_offer(
    server: ServerFlags,
    caller: CallerFlags,
    turn_kind: Annotated[
        str, Flag("--turn-kind", metavar="KIND", help="The kind of turn.", completes="kind")
    ],
    agent_id: AgentId,
    project_id: ProfilesProjectId = None,
) -> OfferEntry:
    """Show one agent's offer for one kind of turn."""
    project_id = project_of(server, project_id, caller)
    async with as_reader(server, caller, project_id) as kernel:
        page = await kernel.projections.turn_offers(
            project_id, turn_kind=turn_kind, agent_id=agent_id, limit=2
        )
    return only_offer(page, f"turn offer not found: agent_id={agent_id} turn_kind={turn_kind}")
