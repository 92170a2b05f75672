"""`cg dispatch`: give an agent work."""

from __future__ import annotations

import sys
from typing import Annotated
from uuid import uuid4

from cgworker.cli.anchors import anchors
from cgworker.cli.command import Program, add_command, single
from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import (
    Argument,
    DispatchKey,
    Flag,
    ProfilesAgent,
    ProfilesProjectId,
    RequestId,
    ServerFlags,
)
from cgworker.cli.order import OrderFlags
from cgworker.cli.payload import PayloadFlags
from cgworker.cli.results import DispatchedTurn
from cgworker.cli.subject_flags import one_of
from cgworker.wire.refs import AgentRef
from cgworker.wire.turns import CONVERSATION_KIND, Dispatch, RootRequest


async def dispatch(
    server: ServerFlags,
    payload: PayloadFlags,
    order: OrderFlags,
    agent: Annotated[
        str | None, Argument(metavar="AGENT", help="The agent that is to work the turn.", completes="taker")
    ] = None,
    target_agent: Annotated[
        str | None,
        Flag("--target-agent", metavar="AGENT", help="The agent, as a flag.", completes="taker"),
    ] = None,
    turn_kind: Annotated[
        str, Flag("--turn-kind", metavar="KIND", help="The kind of turn.", completes="kind")
    ] = CONVERSATION_KIND,
    request_id: RequestId = None,
    dispatch_key: DispatchKey = None,
    project_id: ProfilesProjectId = None,
    requested_by: ProfilesAgent = None,
) -> DispatchedTurn:
    """Give an agent work. Repeating it with the same key and content gives the same turn.

    A script gives --request-id or --dispatch-key. On a terminal a new one is made if both are missing.
    """
    target = one_of(agent, target_agent, "an AGENT")
    actor = acting_agent(
        server, project_id, requested_by, command_name="cg dispatch", agent_flag="--requested-by"
    )
    if request_id is None and dispatch_key is None and sys.stdout.isatty():
        request_id = f"cg-{uuid4().hex[:12]}"
    request_id, dispatch_key = anchors("cg dispatch", request_id, dispatch_key)
    work = Dispatch(
        requested_by=actor,
        target_agent=AgentRef(project_id=actor.project_id, agent_id=target),
        input=payload.read(),
        turn_kind=turn_kind,
        dispatch_key=dispatch_key,
        authority=RootRequest(request_id=request_id),
        **order.read(),
    )
    async with as_actor(server, actor) as kernel:
        turn = await kernel.turns.dispatch(work)
    return DispatchedTurn(
        project_id=turn.project_id,
        turn_id=turn.turn_id,
        agent_id=target,
        request_id=request_id,
        dispatch_key=dispatch_key,
    )


app: Program = single()
add_command(app, "dispatch", dispatch)
