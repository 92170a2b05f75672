"""`cg worker claim dispatch-child`: dispatch a turn under a claimed turn."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_claim_holder
from cgworker.cli.options import (
    ClaimFile,
    Flag,
    RequestedBy,
    ServerFlags,
)
from cgworker.cli.order import OrderFlags
from cgworker.cli.payload import read_claim, read_json
from cgworker.cli.worker_results import (
    DispatchedChild,
)
from cgworker.wire.refs import AgentRef
from cgworker.wire.turns import CONVERSATION_KIND, ChildDerivation, Dispatch


async def dispatch_child(
    server: ServerFlags,
    claim_file: ClaimFile,
    requested_by: RequestedBy,
    target_agent: Annotated[
        str,
        Flag(
            "--target-agent", metavar="AGENT", help="The agent that is to work the turn.", completes="taker"
        ),
    ],
    payload_file: Annotated[str, Flag("--payload-file", metavar="FILE", help="The child's input as JSON.")],
    dispatch_key: Annotated[
        str,
        Flag(
            "--dispatch-key",
            metavar="KEY",
            help="Repeating the command with the same key gives the same turn.",
        ),
    ],
    order: OrderFlags,
    turn_kind: Annotated[
        str, Flag("--turn-kind", metavar="KIND", help="The kind of turn.", completes="kind")
    ] = CONVERSATION_KIND,
) -> DispatchedChild:
    """Dispatch a child of a claimed turn. This renews the lease of the claim."""
    claim = read_claim(claim_file)
    actor = AgentRef(project_id=claim.project_id, agent_id=requested_by)
    child = Dispatch(
        requested_by=actor,
        target_agent=AgentRef(project_id=claim.project_id, agent_id=target_agent),
        input=read_json(payload_file),
        turn_kind=turn_kind,
        dispatch_key=dispatch_key,
        authority=ChildDerivation(parent_claim=claim),
        **order.read(),
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
