"""Routes to dispatch turns, one or many (wire 6.4, differences 28, 35)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from cgworker.errors import CommonGroundError, ConflictError, InvalidRequest
from cgworker.kernel.access import authenticate, bearer_acting_as, read_bearer
from cgworker.kernel.http.messages import item_answer, path_id, read, reply, require_same
from cgworker.kernel.http.request import Request
from cgworker.kernel.long_poll.notifier import turn_topics, work_topic
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.store.batch import resolve_all
from cgworker.kernel.store.callers import Caller
from cgworker.kernel.store.claims.dispatch import dispatch_turns
from cgworker.kernel.store.claims.replay import Dispatched, DispatchRequest
from cgworker.wire.absent import ABSENT
from cgworker.wire.dispatch_many import DispatchItem, DispatchMany, InvalidItem
from cgworker.wire.refs import TurnRef
from cgworker.wire.turns import ChildDerivation, Dispatch, ItemAnswers


async def dispatch(request: Request) -> Response:
    """Give an agent work."""
    body = await read(request, Dispatch)
    project_id = path_id(request, "project_id")
    _check_form(body, project_id)
    bearer = await bearer_acting_as(request, body.requested_by)
    if body.target_agent.project_id != project_id:
        await authenticate(request)
        raise _other_target()
    kernel = request.kernel
    dispatched = await kernel.operations.dispatch(
        project_id, DispatchRequest(body, bearer), size_bytes=request.body_bytes
    )
    _notify_dispatched(kernel, body, dispatched)
    return reply(dispatched.turn)


async def dispatch_many(request: Request) -> Response:
    """Give agents work, many turns in one request; each is answered as by the single route."""
    body = await read(request, DispatchMany)
    project_id = path_id(request, "project_id")
    _require_one(body)
    caller = await authenticate(request)
    refusals = [_refusal_of(item, project_id, caller) for item in body.items]
    bearer = read_bearer(request)
    wanted = [
        DispatchRequest(item, bearer)
        for item, refusal in zip(body.items, refusals, strict=True)
        if isinstance(item, Dispatch) and refusal is None
    ]
    done = iter(await _dispatch_each(request.kernel, project_id, wanted))
    answers = [item_answer(next(done) if refusal is None else refusal) for refusal in refusals]
    return reply({"items": answers})


def _other_target() -> ConflictError:
    return ConflictError("target_agent project must match path project")


def _check_form(body: Dispatch, project_id: str) -> None:
    """Raise what is wrong with a dispatch by itself, in the order of the single route."""
    if body.not_before is not ABSENT and body.delay_seconds is not ABSENT:
        msg = "Value error, not_before and delay_seconds exclude each other"
        raise InvalidRequest([{"type": "value_error", "loc": ["body", "not_before"], "msg": msg}])
    require_same(body.requested_by.project_id, project_id, "requested_by project must match path project")
    if (parent := _parent_of(body)) is not None:
        require_same(parent.project_id, project_id, "authority parent claim project must match path project")


def _parent_of(body: Dispatch) -> TurnRef | None:
    return body.authority.parent_claim.turn if isinstance(body.authority, ChildDerivation) else None


def _require_one(body: DispatchMany) -> None:
    if not body.items:
        msg = "Value error, at least one item is required"
        raise InvalidRequest([{"type": "too_short", "loc": ["body", "items"], "msg": msg}])


def _refusal_of(item: DispatchItem, project_id: str, caller: Caller) -> CommonGroundError | None:
    """Return the refusal that an item gets before it reaches the store; None for none."""
    if isinstance(item, InvalidItem):
        return InvalidRequest(item.faults)
    try:
        _check_form(item, project_id)
        caller.require_is(item.requested_by)
    except CommonGroundError as refusal:
        return refusal
    return _other_target() if item.target_agent.project_id != project_id else None


async def _dispatch_each(
    kernel: Any, project_id: str, wanted: Sequence[DispatchRequest]
) -> list[TurnRef | CommonGroundError]:
    """Dispatch the turns in one statement, and return the answers by place."""
    outcomes = await resolve_all(
        await dispatch_turns(kernel.database, project_id, wanted, lease=kernel.config.lease)
    )
    for item, dispatched in zip(wanted, outcomes, strict=True):
        if isinstance(dispatched, Dispatched):
            _notify_dispatched(kernel, item.request, dispatched)
    return [outcome.turn if isinstance(outcome, Dispatched) else outcome for outcome in outcomes]


def _notify_dispatched(kernel: Any, body: Dispatch, dispatched: Dispatched) -> None:
    """Wake the requests that wait for a new turn, and set the timer if the turn waits for an instant."""
    if not dispatched.is_new:
        return
    if kernel.notifier.is_heard:
        work = [] if dispatched.is_handed_over else [work_topic(body.target_agent)]
        kernel.notifier.wake(*work, *turn_topics(dispatched.turn, body.target_agent, _parent_of(body)))
    if dispatched.due_in_seconds is not None:
        kernel.timers.expect(dispatched.due_in_seconds)


_V = "/v3r1/projects/{project_id}"
routes: list[Operation] = [
    Operation("POST", _V + "/turns:dispatch", dispatch, takes=Dispatch, gives=TurnRef, noun="turns"),
    Operation(
        "POST",
        _V + "/turns:dispatch-many",
        dispatch_many,
        takes=DispatchMany,
        gives=ItemAnswers,
        noun="turns",
    ),
]
