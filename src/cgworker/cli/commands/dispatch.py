"""`cg dispatch`: give an agent work."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.anchors import anchors
from cgworker.cli.command import add_command, single
from cgworker.cli.connect import as_actor
from cgworker.cli.options import DispatchKey, Flag, ProjectId, RequestedBy, RequestId, ServerFlags
from cgworker.cli.order import OrderFlags
from cgworker.cli.payload import PayloadFlags
from cgworker.cli.results import DispatchedTurn
from cgworker.wire.refs import AgentRef
from cgworker.wire.turns import Dispatch, RootRequest


async def dispatch(
    server: ServerFlags,
    project_id: ProjectId,
    requested_by: RequestedBy,
    target_agent: Annotated[
        str, Flag("--target-agent", metavar="AGENT", help="The agent that is to work the turn.")
    ],
    turn_kind: Annotated[str, Flag("--turn-kind", metavar="KIND", help="The kind of turn.")],
    payload: PayloadFlags,
    order: OrderFlags,
    request_id: RequestId = None,
    dispatch_key: DispatchKey = None,
) -> DispatchedTurn:
    """Give an agent work. Repeating it with the same key and content gives the same turn."""
    request_id, dispatch_key = anchors("cg dispatch", request_id, dispatch_key)
    actor = AgentRef(project_id=project_id, agent_id=requested_by)
    work = Dispatch(
        requested_by=actor,
        target_agent=AgentRef(project_id=project_id, agent_id=target_agent),
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
        agent_id=target_agent,
        request_id=request_id,
        dispatch_key=dispatch_key,
    )


app = single()
add_command(app, "dispatch", dispatch)
