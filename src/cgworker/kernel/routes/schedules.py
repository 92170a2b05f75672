"""Routes about schedules (difference 31)."""

from __future__ import annotations

from attrs import frozen
from starlette.responses import Response

from cgworker.kernel.access import authenticate, require_reader
from cgworker.kernel.http.messages import int_field, path_id, read, read_query, reply, require_same
from cgworker.kernel.http.request import Request
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.store.schedules import (
    ScheduleKey,
    delete_schedule,
    get_schedule,
    list_schedules,
    pause_schedule,
    put_schedule,
)
from cgworker.kernel.store.ticks import trigger_schedule
from cgworker.kernel.timers import note_tick
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.schedules import ChangeSchedule, PutSchedule, Schedule, SchedulePage, TriggerSchedule
from cgworker.wire.turns import Done

_ANY = "turn.dispatch.any"


@frozen(kw_only=True)
class ScheduleQuery:
    """After which schedule id to start, and how many."""

    after: str | None = None
    limit: int = int_field(100, minimum=1, maximum=500)


async def list_all(request: Request) -> Response:
    """A page of the project's schedules, ordered by id."""
    project_id, query = path_id(request, "project_id"), read_query(request, ScheduleQuery)
    await require_reader(request, project_id)
    database = request.kernel.database
    return reply(await list_schedules(database, project_id, after=query.after or "", limit=query.limit))


async def get(request: Request) -> Response:
    """A schedule's current state."""
    project_id = path_id(request, "project_id")
    await require_reader(request, project_id)
    database = request.kernel.database
    return reply(await get_schedule(database, project_id, path_id(request, "schedule_id")))


async def put(request: Request) -> Response:
    """Make a schedule, or change it."""
    body = await read(request, PutSchedule)
    key = await _key(request, body.requested_by)
    require_same(body.target_agent.project_id, key.project_id, "target_agent project must match path project")
    kernel = request.kernel
    found = await put_schedule(kernel.database, key, body)
    kernel.timers.expect_anew()
    return reply(found)


async def delete(request: Request) -> Response:
    """Delete a schedule; its turns stay."""
    await delete_schedule(request.kernel.database, await _key(request, None))
    return reply(Done())


async def pause(request: Request) -> Response:
    """Let a schedule dispatch nothing until it is unpaused."""
    return await _pause(request, is_paused=True)


async def unpause(request: Request) -> Response:
    """Let a schedule go on, from now."""
    return await _pause(request, is_paused=False)


async def _pause(request: Request, *, is_paused: bool) -> Response:
    body = await read(request, ChangeSchedule)
    kernel = request.kernel
    found = await pause_schedule(kernel.database, await _key(request, body.requested_by), is_paused=is_paused)
    kernel.timers.expect_anew()
    return reply(found)


async def trigger(request: Request) -> Response:
    """Dispatch a schedule's turn now."""
    body = await read(request, TriggerSchedule)
    key = await _key(request, body.requested_by)
    kernel = request.kernel
    tick = await trigger_schedule(kernel.database, key, trigger_key=body.key, lease=kernel.config.lease)
    note_tick(kernel.notifier, kernel.metrics, tick)
    return reply(tick.turn)


async def _key(request: Request, actor: AgentRef | None) -> ScheduleKey:
    """Return the path's schedule, as its caller may change it; `actor` is whom the body names."""
    project_id = path_id(request, "project_id")
    caller = await authenticate(request)
    if actor is not None:
        require_same(actor.project_id, project_id, "requested_by project must match path project")
        caller.require_is(actor)
    require_same(caller.agent.project_id, project_id, "caller project must match path project")
    return ScheduleKey(project_id, path_id(request, "schedule_id"), caller.agent, caller.holds(_ANY))


_S = "/v3r1/projects/{project_id}/management/schedules"
_ONE = _S + "/{schedule_id}"
routes: list[Operation] = [
    Operation("GET", _S, list_all, query=ScheduleQuery, gives=SchedulePage),
    Operation("POST", _ONE + ":pause", pause, takes=ChangeSchedule, gives=Schedule),
    Operation("POST", _ONE + ":unpause", unpause, takes=ChangeSchedule, gives=Schedule),
    Operation("POST", _ONE + ":trigger", trigger, takes=TriggerSchedule, gives=TurnRef),
    Operation("GET", _ONE, get, gives=Schedule),
    Operation("PUT", _ONE, put, takes=PutSchedule, gives=Schedule),
    Operation("DELETE", _ONE, delete, gives=Done),
]
