"""`cg project`: what there is in a project, and what happened."""

from __future__ import annotations

from typing import Annotated

import typer

from cgworker.cli.command import command, group
from cgworker.cli.connect import as_reader
from cgworker.cli.options import (
    AcceptsWorkOnly,
    AfterLedgerSeq,
    AgentId,
    CallerFlags,
    EnabledOnly,
    FollowSeconds,
    Limit,
    ProjectId,
    ServerFlags,
    TurnId,
)
from cgworker.errors import ConflictError, NotFoundError
from cgworker.lifecycle import TurnOutcome, TurnState
from cgworker.wire.projections import AgentPage, EventPage, Lineage, OfferEntry, OfferPage, TurnPage

app: typer.Typer = group("Show a project's agents, offers, turns and events.")
agents: typer.Typer = group("A project's agents.")
offers: typer.Typer = group("What a project's agents say they can do.")
turns: typer.Typer = group("A project's turns.")
app.add_typer(agents, name="agent")
app.add_typer(offers, name="offer")
app.add_typer(turns, name="turn")

MaybeKind = Annotated[str | None, typer.Option("--turn-kind", metavar="KIND", help="Only of this kind.")]


@command(agents, "list")
async def list_agents(
    server: ServerFlags,
    caller: CallerFlags,
    project_id: ProjectId,
    enabled_only: EnabledOnly = False,
    accepts_work_only: AcceptsWorkOnly = False,
    role: Annotated[str | None, typer.Option("--role", metavar="ROLE", help="Only with this role.")] = None,
    capability: Annotated[
        str | None, typer.Option("--capability", metavar="KIND", help="Only those that can do this.")
    ] = None,
    limit: Limit = None,
) -> AgentPage:
    """List agents by their id."""
    async with as_reader(server, caller) as kernel:
        return await kernel.projections.agents(
            project_id,
            enabled_only=enabled_only,
            accepts_work_only=accepts_work_only,
            role=role,
            capability=capability,
            limit=limit,
        )


@command(offers, "list")
async def list_offers(
    server: ServerFlags,
    caller: CallerFlags,
    project_id: ProjectId,
    turn_kind: MaybeKind = None,
    agent_id: Annotated[
        str | None, typer.Option("--agent-id", metavar="AGENT", help="Only this agent's.")
    ] = None,
    enabled_only: EnabledOnly = False,
    accepts_work_only: AcceptsWorkOnly = False,
    limit: Limit = None,
) -> OfferPage:
    """List what agents say they can do."""
    async with as_reader(server, caller) as kernel:
        return await kernel.projections.turn_offers(
            project_id,
            turn_kind=turn_kind,
            agent_id=agent_id,
            enabled_only=enabled_only,
            accepts_work_only=accepts_work_only,
            limit=limit,
        )


@command(offers, "get")
async def get_offer(
    server: ServerFlags,
    caller: CallerFlags,
    project_id: ProjectId,
    turn_kind: Annotated[str, typer.Option("--turn-kind", metavar="KIND", help="The kind of turn.")],
    agent_id: AgentId,
) -> OfferEntry:
    """Show one agent's offer for one kind of turn."""
    async with as_reader(server, caller) as kernel:
        page = await kernel.projections.turn_offers(
            project_id, turn_kind=turn_kind, agent_id=agent_id, limit=2
        )
    return the_offer(page, f"turn offer not found: agent_id={agent_id} turn_kind={turn_kind}")


@command(turns, "list")
async def list_turns(
    server: ServerFlags,
    caller: CallerFlags,
    project_id: ProjectId,
    target_agent_id: Annotated[
        str | None, typer.Option("--target-agent-id", metavar="AGENT", help="Only those for this agent.")
    ] = None,
    turn_kind: MaybeKind = None,
    state: Annotated[TurnState | None, typer.Option("--state", help="Only turns in this state.")] = None,
    outcome: Annotated[
        TurnOutcome | None, typer.Option("--outcome", help="Only turns that ended so.")
    ] = None,
    stop_requested_only: Annotated[
        bool, typer.Option("--stop-requested-only", help="Only those asked to stop.")
    ] = False,
    limit: Limit = None,
) -> TurnPage:
    """List turns, the newest first."""
    async with as_reader(server, caller) as kernel:
        return await kernel.projections.turns(
            project_id,
            target_agent_id=target_agent_id,
            turn_kind=turn_kind,
            state=state and state.value,
            outcome=outcome and outcome.value,
            stop_requested_only=stop_requested_only,
            limit=limit,
        )


@command(turns, "lineage")
async def lineage(
    server: ServerFlags,
    caller: CallerFlags,
    project_id: ProjectId,
    turn_id: TurnId,
    limit: Limit = None,
) -> Lineage:
    """Show a turn and the turns dispatched from it."""
    async with as_reader(server, caller) as kernel:
        return await kernel.projections.lineage(project_id, turn_id, limit=limit)


@command(app, "feed")
async def feed(
    server: ServerFlags,
    caller: CallerFlags,
    project_id: ProjectId,
    after_ledger_seq: AfterLedgerSeq = 0,
    limit: Limit = None,
    wait_seconds: FollowSeconds = 0,
) -> EventPage:
    """Show what happened in a project."""
    async with as_reader(server, caller) as kernel:
        return await kernel.projections.feed(
            project_id, after_ledger_seq=after_ledger_seq, limit=limit, wait_seconds=wait_seconds
        )


def the_offer(page: OfferPage, none_found: str) -> OfferEntry:
    """The only offer of a page.

    Raises:
        NotFoundError: there is none; says `none_found`.
        ConflictError: there are two.
    """
    if not page.items:
        raise NotFoundError(none_found)
    if len(page.items) > 1:
        raise ConflictError(f"more than one offer: {page.items[0].turn_kind} of {page.items[0].agent_id}")
    return page.items[0]
