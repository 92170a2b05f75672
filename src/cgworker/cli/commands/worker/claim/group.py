"""`cg worker claim`: work a turn by hand, one step at a time."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cgworker.cli.command import command, group
from cgworker.cli.connect import as_claim_holder
from cgworker.cli.context_page import read_context_page
from cgworker.cli.options import AgentId, ContextAfter, ContextLimit, ProjectId, RequestedBy, ServerFlags
from cgworker.cli.payload import bare, check_place, read_claim, read_json, write_json_file
from cgworker.cli.results import (
    ClosedTurn,
    SuspendedTurn,
)
from cgworker.cli.worker_results import (
    AppendedRecord,
    ClaimWithContext,
    ContextNotRead,
    DispatchedChild,
    NothingClaimed,
    RenewedClaim,
)
from cgworker.client import KernelClient
from cgworker.errors import CommonGroundError
from cgworker.lifecycle import TurnOutcome
from cgworker.wire.claims import Reconciled
from cgworker.wire.converter import ABSENT
from cgworker.wire.refs import AgentRef, ClaimToken
from cgworker.wire.turns import CONVERSATION_KIND, ChildDerivation, Dispatch

app: typer.Typer = group("Work a turn by hand, one step at a time.")

ClaimFile = Annotated[
    str, typer.Option("--claim-file", metavar="FILE", help="The claim, as `cg worker claim next` wrote it.")
]
ClaimOutFile = Annotated[
    str | None, typer.Option("--claim-out-file", metavar="FILE", help="Write the claim there, for you alone.")
]


@command(app, "next")
async def claim_next(
    server: ServerFlags,
    project_id: ProjectId,
    agent_id: AgentId,
    context_after_turn_seq: ContextAfter = 0,
    context_limit: ContextLimit = 100,
    claim_out_file: ClaimOutFile = None,
) -> ClaimWithContext | NothingClaimed | ContextNotRead:
    """Claim the agent's oldest queued turn. Its lease runs: renew, finish or suspend it in time."""
    agent = AgentRef(project_id=project_id, agent_id=agent_id)
    check_place(claim_out_file)
    async with as_claim_holder(server, agent) as kernel:
        claim = (await kernel.claims.claim(agent)).claimed
        if claim is None:
            return NothingClaimed()
        if claim_out_file is not None:
            write_json_file(claim_out_file, bare(claim))
        return await read_context(kernel, claim, context_after_turn_seq, context_limit)


async def read_context(
    kernel: KernelClient, claim: ClaimToken, after_turn_seq: int, limit: int
) -> ClaimWithContext | ContextNotRead:
    """Return the claim with its context; suspend the turn if its context cannot be read."""
    facts: dict[str, Any] = {
        "project_id": claim.project_id,
        "turn_id": claim.turn_id,
        "agent_id": claim.agent_id,
    }
    try:
        context = await read_context_page(kernel, claim.turn, after_turn_seq, limit)
    except CommonGroundError as unread:
        try:
            await kernel.turns.suspend(claim, "context_fetch_error", note=str(unread))
        except CommonGroundError as refused:
            return ContextNotRead(
                **facts,
                claim=bare(claim),
                context_error=str(unread),
                suspended_after_failure=False,
                suspend_error=str(refused),
            )
        return ContextNotRead(
            **facts, claim=bare(claim), context_error=str(unread), suspended_after_failure=True
        )
    return ClaimWithContext(**facts, claim=bare(claim), context=context)


@command(app, "renew")
async def renew(server: ServerFlags, claim_file: ClaimFile) -> RenewedClaim:
    """Give a claim's lease more time."""
    claim = read_claim(claim_file)
    async with as_claim_holder(server, claim.agent) as kernel:
        renewal = await kernel.claims.renew(claim)
    return RenewedClaim(
        project_id=claim.project_id,
        turn_id=claim.turn_id,
        agent_id=claim.agent_id,
        server_time=renewal.server_time,
        expires_at=renewal.expires_at,
        recommended_interval_seconds=renewal.recommended_interval_seconds,
    )


@command(app, "append")
async def append(
    server: ServerFlags,
    claim_file: ClaimFile,
    payload_file: Annotated[
        str, typer.Option("--payload-file", metavar="FILE", help="The record's content as JSON.")
    ],
    role: Annotated[
        str, typer.Option("--role", metavar="ROLE", help="What kind of record it is.")
    ] = "progress",
) -> AppendedRecord:
    """Add a record to a claimed turn."""
    claim, payload = read_claim(claim_file), read_json(payload_file)
    async with as_claim_holder(server, claim.agent) as kernel:
        record = await kernel.turns.append(claim, payload, role=role)
    return AppendedRecord(
        project_id=claim.project_id, turn_id=claim.turn_id, agent_id=claim.agent_id, role=role, record=record
    )


@command(app, "finish")
async def finish(
    server: ServerFlags,
    claim_file: ClaimFile,
    outcome: Annotated[TurnOutcome, typer.Option("--outcome", help="How the turn ends.")],
    payload_file: Annotated[
        str | None, typer.Option("--payload-file", metavar="FILE", help="What came of it, as JSON.")
    ] = None,
    final_record_role: Annotated[
        str, typer.Option("--final-record-role", metavar="ROLE", help="What kind of record that is.")
    ] = "deliverable",
) -> ClosedTurn:
    """Close a claimed turn."""
    claim = read_claim(claim_file)
    payload = ABSENT if payload_file is None else read_json(payload_file)
    async with as_claim_holder(server, claim.agent) as kernel:
        await kernel.turns.finish(
            claim, outcome.value, final_payload=payload, final_record_role=final_record_role
        )
        return ClosedTurn.of(await kernel.turns.get(claim.turn), claimed_by=claim.agent_id)


@command(app, "suspend")
async def suspend(
    server: ServerFlags,
    claim_file: ClaimFile,
    reason: Annotated[str, typer.Option("--reason", metavar="WORD", help="Why, in a word.")],
    note: Annotated[str | None, typer.Option("--note", metavar="TEXT", help="Why, in a sentence.")] = None,
) -> SuspendedTurn:
    """Put a claimed turn aside until it is resumed."""
    claim = read_claim(claim_file)
    async with as_claim_holder(server, claim.agent) as kernel:
        await kernel.turns.suspend(claim, reason, note=note)
        return SuspendedTurn.of(await kernel.turns.get(claim.turn), claimed_by=claim.agent_id, reason=reason)


@command(app, "dispatch-child")
async def dispatch_child(
    server: ServerFlags,
    claim_file: ClaimFile,
    requested_by: RequestedBy,
    target_agent: Annotated[str, typer.Option("--target-agent", metavar="AGENT", help="Who is to do it.")],
    payload_file: Annotated[
        str, typer.Option("--payload-file", metavar="FILE", help="What is to be done, as JSON.")
    ],
    dispatch_key: Annotated[
        str, typer.Option("--dispatch-key", metavar="KEY", help="What makes a repeat the same turn.")
    ],
    turn_kind: Annotated[
        str, typer.Option("--turn-kind", metavar="KIND", help="What kind of turn it is.")
    ] = CONVERSATION_KIND,
) -> DispatchedChild:
    """Give an agent work under a claimed turn. Its lease gets more time with it."""
    claim = read_claim(claim_file)
    actor = AgentRef(project_id=claim.project_id, agent_id=requested_by)
    child = Dispatch(
        requested_by=actor,
        target_agent=AgentRef(project_id=claim.project_id, agent_id=target_agent),
        input=read_json(payload_file),
        turn_kind=turn_kind,
        dispatch_key=dispatch_key,
        authority=ChildDerivation(parent_claim=claim),
    )
    async with as_claim_holder(server, actor) as kernel:
        turn = await kernel.turns.dispatch(child)
    return DispatchedChild(
        project_id=turn.project_id,
        turn_id=turn.turn_id,
        agent_id=target_agent,
        parent_turn_id=claim.turn_id,
        dispatch_key=dispatch_key.strip(),
    )


@command(app, "reconcile")
async def reconcile(server: ServerFlags, project_id: ProjectId, agent_id: AgentId) -> Reconciled:
    """Queue the agent's turns again whose leases have ended. A kernel of ours does it by itself."""
    agent = AgentRef(project_id=project_id, agent_id=agent_id)
    async with as_claim_holder(server, agent) as kernel:
        return await kernel.claims.reconcile_expired(agent)
