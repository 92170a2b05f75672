"""`cg smoke pair`: send a turn from one agent to another and wait for its result."""

from __future__ import annotations

import time
from typing import Annotated

from cgworker.cli.anchors import anchors
from cgworker.cli.connect import as_actor
from cgworker.cli.context_page import read_context_page
from cgworker.cli.identity import parse_profile_name
from cgworker.cli.offers import only_offer
from cgworker.cli.options import (
    DispatchKey,
    ExitStatus,
    Flag,
    KernelFlags,
    PollIntervalMs,
    RequestId,
    TimeoutSeconds,
)
from cgworker.cli.payload import parse_json
from cgworker.cli.results import SmokeDispatch, SmokeResult, UnsuccessfulSmoke
from cgworker.cli.waiting import wait_until_closed
from cgworker.lifecycle import TurnOutcome
from cgworker.wire.refs import AgentRef
from cgworker.wire.turns import CONVERSATION_KIND, Dispatch, RootRequest

_PAYLOAD = '{"task":"Reply with a concise CommonGround smoke-test result."}'


async def pair(
    server: KernelFlags,
    from_: Annotated[str, Flag("--from", metavar="PROJECT/AGENT", help="The profile that asks.")],
    to: Annotated[str, Flag("--to", metavar="AGENT", help="The agent that is to answer.")],
    turn_kind: Annotated[
        str, Flag("--turn-kind", metavar="KIND", help="The kind of turn.", completes="kind")
    ] = CONVERSATION_KIND,
    request_id: RequestId = None,
    dispatch_key: DispatchKey = None,
    payload_json: Annotated[str, Flag("--payload-json", metavar="JSON", help="The turn's input.")] = _PAYLOAD,
    timeout_seconds: TimeoutSeconds = 60.0,
    poll_interval_ms: PollIntervalMs = 500,
    exit_status: ExitStatus = False,
) -> SmokeResult:
    """Dispatch a turn to an agent that offers its kind, and show the result."""
    actor = parse_profile_name(from_)
    made_up = f"smoke-{actor.agent_id}-to-{to}-{int(time.time())}"
    request_id, dispatch_key = anchors("cg smoke pair", request_id or dispatch_key or made_up, dispatch_key)
    work = Dispatch(
        requested_by=actor,
        target_agent=AgentRef(project_id=actor.project_id, agent_id=to),
        input=parse_json(payload_json),
        turn_kind=turn_kind,
        dispatch_key=dispatch_key,
        authority=RootRequest(request_id=request_id),
    )
    async with as_actor(server, actor) as kernel:
        offers = await kernel.projections.turn_offers(
            actor.project_id,
            turn_kind=turn_kind,
            agent_id=to,
            enabled_only=True,
            accepts_work_only=True,
            limit=2,
        )
        offer = only_offer(offers, f"target offer not found: agent_id={to} turn_kind={turn_kind}")
        turn = await kernel.turns.dispatch(work)
        terminal = await wait_until_closed(kernel, turn, timeout_seconds, poll_interval_ms / 1000)
        context = await read_context_page(kernel, turn, 0, 100)
    is_failure = exit_status and terminal.outcome != TurnOutcome.SUCCEEDED
    return (UnsuccessfulSmoke if is_failure else SmokeResult)(
        project_id=actor.project_id,
        from_=actor.agent_id,
        to=to,
        offer=offer,
        dispatch=SmokeDispatch(
            turn_id=turn.turn_id, request_id=request_id, dispatch_key=dispatch_key, turn_kind=turn_kind
        ),
        terminal_payload=terminal.final_payload,
        terminal=terminal,
        context=context,
    )
