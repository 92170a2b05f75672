"""Telling turns something (difference 32)."""

from __future__ import annotations

from starlette.responses import Response

from cgworker.kernel.access import authenticate
from cgworker.kernel.http.messages import path_id, read, reply, require_key, require_same
from cgworker.kernel.http.request import Request
from cgworker.kernel.long_poll.notifier import turn_topics
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.store.messages import tell_turn
from cgworker.wire.refs import CardBoxRef, TurnRef
from cgworker.wire.turns import TellTurn


async def tell(request: Request) -> Response:
    """Tell a turn something."""
    body = await read(request, TellTurn)
    ref = TurnRef(project_id=path_id(request, "project_id"), turn_id=path_id(request, "turn_id"))
    require_key(body.key, ["body", "key"])
    require_same(body.requested_by.project_id, ref.project_id, "requested_by project must match path project")
    caller = await authenticate(request)
    caller.require_is(body.requested_by)
    kernel = request.kernel
    may_tell_any = caller.holds("turn.tell.any")
    told = await tell_turn(kernel.database, ref, body, may_tell_any=may_tell_any)
    if told.is_new:
        kernel.notifier.wake(*turn_topics(ref, told.agent))
    return reply(told.box)


routes: list[Operation] = [
    Operation(
        "POST",
        "/v3r1/projects/{project_id}/turns/{turn_id}:tell",
        tell,
        takes=TellTurn,
        gives=CardBoxRef,
        noun="turns",
    ),
]
