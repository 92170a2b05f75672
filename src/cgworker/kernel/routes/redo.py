"""Doing closed turns again (difference 34)."""

from __future__ import annotations

from starlette.responses import Response

from cgworker.kernel.access import bearer_acting_as, require_reader
from cgworker.kernel.http.messages import path_id, read, reply, require_same
from cgworker.kernel.http.request import Request
from cgworker.kernel.long_poll.notifier import turn_topics, work_topic
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.store.redo import redo_turn
from cgworker.wire.refs import TurnRef
from cgworker.wire.turns import RedoTurn


async def redo(request: Request) -> Response:
    """Dispatch the input of a closed turn anew."""
    body = await read(request, RedoTurn)
    ref = TurnRef(project_id=path_id(request, "project_id"), turn_id=path_id(request, "turn_id"))
    require_same(body.requested_by.project_id, ref.project_id, "requested_by project must match path project")
    bearer = await bearer_acting_as(request, body.requested_by)
    await require_reader(request, ref.project_id)
    kernel = request.kernel
    dispatched, agent = await redo_turn(kernel.database, ref, body, bearer, lease=kernel.config.lease)
    if dispatched.is_new:
        kernel.notifier.wake(work_topic(agent), *turn_topics(dispatched.turn, agent))
    return reply(dispatched.turn)


routes: list[Operation] = [
    Operation(
        "POST",
        "/v3r1/projects/{project_id}/turns/{turn_id}:redo",
        redo,
        takes=RedoTurn,
        gives=TurnRef,
        noun="turns",
    ),
]
