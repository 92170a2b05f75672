"""`cg turn redo`: do closed turns again, one or many."""

from __future__ import annotations

from typing import Annotated

from attrs import evolve

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import (
    ActingAgent,
    Argument,
    Flag,
    MaybeTurnKind,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.cli.turn_results import RedoneTurn, RedoneTurns
from cgworker.client import KernelClient
from cgworker.errors import KernelRefused, UsageError
from cgworker.lifecycle import TurnOutcome
from cgworker.wire.refs import TurnRef


async def redo(
    server: ServerFlags,
    turn_id: Annotated[
        str | None,
        Argument(
            metavar="[TURN]", help="The turn, such as T-7. Without it, those of --outcome.", completes="turn"
        ),
    ] = None,
    outcome: Annotated[
        TurnOutcome | None, Flag("--outcome", help="In bulk: the turns that ended so, the newest first.")
    ] = None,
    target_agent: Annotated[
        str | None,
        Flag(
            "--target-agent",
            metavar="AGENT",
            help="In bulk: only those of this agent.",
            completes="taker",
        ),
    ] = None,
    turn_kind: MaybeTurnKind = None,
    limit: Annotated[
        int, Flag("--limit", min=1, max=500, metavar="N", help="In bulk: at most so many.")
    ] = 100,
    keep_steps: Annotated[
        bool, Flag("--keep-steps", help="Go on after the steps, children and answers that are there.")
    ] = False,
    key: Annotated[
        str | None, Flag("--key", metavar="KEY", help="The dispatch key.  [default: redo:TURN]")
    ] = None,
    dry_run: Annotated[bool, Flag("--dry-run", help="Only list the turns; do nothing.")] = False,
    project_id: ProfilesProjectId = None,
    agent_id: ActingAgent = None,
) -> RedoneTurns:
    """Do closed turns again: their input goes anew to the same agent. A repeat gives the same new turns."""
    _check(turn_id, outcome, key, has_filters=bool(target_agent or turn_kind))
    actor = acting_agent(server, project_id, agent_id, command_name="cg turn redo")
    async with as_actor(server, actor) as kernel:
        if turn_id is not None:
            found = [RedoneTurn(turn_id=turn_id)]
        else:
            page = await kernel.projections.turns(
                actor.project_id,
                target_agent_id=target_agent,
                turn_kind=turn_kind,
                outcome=outcome and outcome.value,
                limit=limit,
            )
            found = [RedoneTurn(turn_id=entry.turn_id) for entry in page.items]
        if not dry_run:
            ref = TurnRef(project_id=actor.project_id, turn_id=turn_id or "")
            found = [
                await _redo(kernel, evolve(ref, turn_id=each.turn_id), keep_steps, key, is_only=bool(turn_id))
                for each in found
            ]
    return RedoneTurns(project_id=actor.project_id, dry_run=dry_run, items=tuple(found))


def _check(turn_id: str | None, outcome: TurnOutcome | None, key: str | None, *, has_filters: bool) -> None:
    """Refuse a line that names neither one turn nor many, or both."""
    if (turn_id is None) == (outcome is None):
        raise UsageError("name either a TURN, or the turns to do again by --outcome")
    if turn_id is not None and has_filters:
        raise UsageError("--target-agent and --turn-kind choose among many turns, by --outcome")
    if outcome is not None and key is not None:
        raise UsageError("--key is the key of one turn: each of many has its own, redo:TURN")


async def _redo(
    kernel: KernelClient, turn: TurnRef, keep_steps: bool, key: str | None, *, is_only: bool
) -> RedoneTurn:
    """Do one turn again. Among many a refusal is noted, and the others go on."""
    try:
        anew = await kernel.turns.redo(turn, keep_steps=keep_steps, key=key)
    except KernelRefused as refused:
        if is_only:
            raise
        return RedoneTurn(turn_id=turn.turn_id, error=str(refused))
    return RedoneTurn(turn_id=turn.turn_id, redone_as=anew.turn_id)
