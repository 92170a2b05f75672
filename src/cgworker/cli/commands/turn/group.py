"""`cg turn`: look at a turn, wait for it, resume or stop it."""

from __future__ import annotations

from typing import Annotated

import typer

from cgworker.cli.command import command, group
from cgworker.cli.commands.turn import follow, questions
from cgworker.cli.connect import as_actor, as_reader
from cgworker.cli.context_page import read_context_page
from cgworker.cli.envelope import tell_cut
from cgworker.cli.options import (
    AfterLedgerSeq,
    CallerFlags,
    FollowSeconds,
    PageLimit,
    PollIntervalMs,
    ProjectId,
    RequestedBy,
    ServerFlags,
    TimeoutSeconds,
    TurnId,
)
from cgworker.cli.results import RequestedTurn, TurnResult, WaitedTurn
from cgworker.cli.waiting import wait_until_closed
from cgworker.wire.ledger import FeedPage
from cgworker.wire.meta import Meta
from cgworker.wire.records import TurnContext
from cgworker.wire.refs import AgentRef, TurnRef

app: typer.Typer = group("Look at turns, wait for them, answer them, resume and stop them.")
app.add_typer(questions.app)
app.add_typer(follow.app)


@command(app, "get")
async def get(server: ServerFlags, caller: CallerFlags, project_id: ProjectId, turn_id: TurnId) -> TurnResult:
    """Show a turn as it stands."""
    async with as_reader(server, caller) as kernel:
        return TurnResult.of(await kernel.turns.get(TurnRef(project_id=project_id, turn_id=turn_id)))


@command(app, "context")
async def context(
    server: ServerFlags,
    caller: CallerFlags,
    project_id: ProjectId,
    turn_id: TurnId,
    after_turn_seq: Annotated[
        int, typer.Option("--after-turn-seq", metavar="N", help="Only records after this one.")
    ] = 0,
    limit: PageLimit = 100,
) -> TurnContext:
    """Show a turn's records with their content."""
    turn = TurnRef(project_id=project_id, turn_id=turn_id)
    async with as_reader(server, caller) as kernel:
        return await read_context_page(kernel, turn, after_turn_seq, limit)


@command(app, "wait")
async def wait(
    server: ServerFlags,
    caller: CallerFlags,
    project_id: ProjectId,
    turn_id: TurnId,
    timeout_seconds: TimeoutSeconds = 60.0,
    poll_interval_ms: PollIntervalMs = 500,
) -> WaitedTurn:
    """Wait until a turn is closed. A suspended turn is not."""
    turn = TurnRef(project_id=project_id, turn_id=turn_id)
    async with as_reader(server, caller) as kernel:
        return await wait_until_closed(kernel, turn, timeout_seconds, poll_interval_ms / 1000)


@command(app, "resume")
async def resume(
    server: ServerFlags, project_id: ProjectId, turn_id: TurnId, requested_by: RequestedBy
) -> RequestedTurn:
    """Queue a suspended turn again."""
    actor, turn = _refs(project_id, requested_by, turn_id)
    async with as_actor(server, actor) as kernel:
        await kernel.turns.resume(turn, requested_by=actor)
        return RequestedTurn.of(await kernel.turns.get(turn), requested_by=requested_by)


@command(app, "stop")
async def stop(
    server: ServerFlags,
    project_id: ProjectId,
    turn_id: TurnId,
    requested_by: RequestedBy,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the ledger.")
    ] = None,
) -> RequestedTurn:
    """Ask for a turn to be stopped. A worker hears it while it runs the turn, and closes it."""
    actor, turn = _refs(project_id, requested_by, turn_id)
    async with as_actor(server, actor) as kernel:
        await kernel.turns.stop(turn, requested_by=actor, meta=Meta(reason=reason) if reason else None)
        return RequestedTurn.of(await kernel.turns.get(turn), requested_by=requested_by)


@command(app, "feed")
async def feed(
    server: ServerFlags,
    caller: CallerFlags,
    project_id: ProjectId,
    turn_id: TurnId,
    after_ledger_seq: AfterLedgerSeq = 0,
    limit: PageLimit = 100,
    wait_seconds: FollowSeconds = 0,
) -> FeedPage:
    """Show what happened to a turn."""
    turn = TurnRef(project_id=project_id, turn_id=turn_id)
    async with as_reader(server, caller) as kernel:
        page, has_more = await kernel.turns.feed_page(
            turn, after_ledger_seq=after_ledger_seq, limit=limit, wait_seconds=wait_seconds
        )
    after = page.next_after_ledger_seq
    tell_cut(len(page.items), limit, has_more, flag="--after-ledger-seq", after=after)
    return page


def _refs(project_id: str, agent_id: str, turn_id: str) -> tuple[AgentRef, TurnRef]:
    return (
        AgentRef(project_id=project_id, agent_id=agent_id),
        TurnRef(project_id=project_id, turn_id=turn_id),
    )
