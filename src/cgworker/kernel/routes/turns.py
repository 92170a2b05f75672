"""Routes about turns (wire 6.3, 6.4, differences 4, 7, 9, 32)."""

from __future__ import annotations

from collections.abc import Awaitable

from attrs import frozen
from starlette.responses import Response

from cgworker.errors import ConflictError
from cgworker.kernel.access import authenticate, bearer_acting_as, long_poll_as_reader
from cgworker.kernel.http.messages import (
    idempotency_key,
    next_page,
    path_id,
    read,
    read_query,
    reply,
    require_same,
)
from cgworker.kernel.http.request import Request
from cgworker.kernel.long_poll.long_poll import Preferences
from cgworker.kernel.long_poll.notifier import turn_topic, turn_topics, work_topic
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.routes import dispatches, messages, redo, settlements
from cgworker.kernel.routes.feeds import FeedQuery, feed_response
from cgworker.kernel.routes.settlements import notify_settled
from cgworker.kernel.store.callers import PresentedCredential
from cgworker.kernel.store.claims.append import Append
from cgworker.kernel.store.claims.fence import Fenced
from cgworker.kernel.store.claims.finish import check_outcome
from cgworker.kernel.store.ledger import turn_feed
from cgworker.kernel.store.records import context_of, get_context
from cgworker.kernel.store.turns import get_turn, resume_turn, stop_turn
from cgworker.wire.ledger import FeedPage
from cgworker.wire.records import JSON_LINES, AppendRecord, TurnContext
from cgworker.wire.refs import CardBoxRef, ClaimToken, TurnRef
from cgworker.wire.turns import (
    Done,
    FinishTurn,
    ResumeTurn,
    StopTurn,
    SuspendTurn,
    TurnSnapshot,
)


@frozen(kw_only=True)
class TurnQuery:
    """The state that the caller knows; with Prefer: wait the answer waits for another one."""

    state: str | None = None


@frozen(kw_only=True)
class ContextQuery:
    """After which record to start, and how many; a negative limit drops so many from the end."""

    after_turn_seq: int = 0
    limit: int = 100


async def get(request: Request) -> Response:
    """The turn's current state, at once, or when it has changed from `?state=`."""
    ref, query, preferences = _path_turn(request), read_query(request, TurnQuery), Preferences(request)
    snapshot = await long_poll_as_reader(
        request,
        ref.project_id,
        [turn_topic(ref)],
        lambda: get_turn(request.kernel.database, ref),
        is_new=lambda found: found["state"] == "closed" or found["state"] != (query.state or found["state"]),
        wait_seconds=preferences.wait_seconds,
    )
    return reply(snapshot, headers=preferences.applied())


async def context(request: Request) -> Response:
    """The turn and a page of its records, at once, or when there are some after `after_turn_seq`."""
    ref, query, preferences = _path_turn(request), read_query(request, ContextQuery), Preferences(request)
    after, limit = query.after_turn_seq, query.limit
    kernel = request.kernel
    max_items = kernel.config.max_page_items
    page = await long_poll_as_reader(
        request,
        ref.project_id,
        [turn_topic(ref)],
        lambda: get_context(kernel.database, ref, after_turn_seq=after, limit=limit, max_items=max_items),
        is_new=lambda found: bool(found.records) or found.turn["state"] == "closed" or limit == 0,
        wait_seconds=preferences.wait_seconds,
    )
    headers = preferences.applied()
    if page.cut_after is not None:
        headers |= next_page(request, "after_turn_seq", page.cut_after)
    if JSON_LINES in (request.header("accept") or ""):
        return Response(page.lines(), 200, headers, JSON_LINES)
    return reply(context_of(page.turn, page.records), headers=headers)


async def feed(request: Request) -> Response:
    """A page of the turn's events."""
    ref, kernel = _path_turn(request), request.kernel
    max_items = kernel.config.max_page_items

    def read_page(query: FeedQuery) -> Awaitable[tuple[FeedPage, bool]]:
        after, limit = query.after_ledger_seq, query.limit
        return turn_feed(kernel.database, ref, after=after, limit=limit, max_items=max_items)

    return await feed_response(request, ref.project_id, turn_topic(ref), read_page)


async def append(request: Request) -> Response:
    """Add a record under its claim."""
    body = await read(request, AppendRecord)
    key = idempotency_key(request)
    bearer = await _claim_bearer(request, body.claim)
    kernel = request.kernel
    box = await kernel.operations.append(
        body.claim.project_id, Append(body, bearer, key), size_bytes=request.body_bytes
    )
    if kernel.notifier.is_heard:
        kernel.notifier.wake(*turn_topics(body.claim.turn, body.claim.agent))
    return reply(box)


async def finish(request: Request) -> Response:
    """Close the turn."""
    body = await read(request, FinishTurn)
    check_outcome(body)
    bearer = await _claim_bearer(request, body.claim)
    kernel = request.kernel
    settled = await kernel.operations.finish(
        body.claim.project_id, Fenced(body.claim, bearer, body), size_bytes=request.body_bytes
    )
    notify_settled(kernel, body.claim, settled)
    return reply(Done())


async def suspend(request: Request) -> Response:
    """Suspend the turn."""
    body = await read(request, SuspendTurn)
    bearer = await _claim_bearer(request, body.claim)
    kernel = request.kernel
    settled = await kernel.operations.suspend(body.claim.project_id, Fenced(body.claim, bearer, body))
    notify_settled(kernel, body.claim, settled)
    return reply(Done())


async def resume(request: Request) -> Response:
    """Queue a suspended turn again."""
    body = await read(request, ResumeTurn)
    ref = _path_turn(request)
    require_same(body.requested_by.project_id, ref.project_id, "requested_by project must match path project")
    caller = await authenticate(request)
    caller.require_is(body.requested_by)
    kernel = request.kernel
    may_resume_any = caller.holds("turn.resume.any")
    agent = await resume_turn(kernel.database, ref, body, may_resume_any=may_resume_any)
    kernel.notifier.wake(work_topic(agent), *turn_topics(ref, agent))
    return reply(Done())


async def stop(request: Request) -> Response:
    """Request that the turn be stopped."""
    body = await read(request, StopTurn)
    ref = _path_turn(request)
    require_same(body.turn.project_id, ref.project_id, "turn project must match path project")
    require_same(body.turn.turn_id, ref.turn_id, "path turn_id must match request turn")
    require_same(body.requested_by.project_id, ref.project_id, "requested_by project must match path project")
    caller = await authenticate(request)
    caller.require_is(body.requested_by)
    kernel = request.kernel
    stopped = await stop_turn(kernel.database, body, may_stop_any=caller.holds("turn.stop.any"))
    kernel.notifier.wake(work_topic(stopped.agent), *turn_topics(ref, stopped.agent, stopped.parent))
    return reply(body.turn)


async def _claim_bearer(request: Request, claim: ClaimToken) -> PresentedCredential:
    """Return the credential of the claim's agent; raise ConflictError unless the claim is the path's."""
    ref = _path_turn(request)
    require_same(claim.project_id, ref.project_id, "claim project must match path project")
    if claim.turn_id != ref.turn_id:
        raise ConflictError("path turn_id must match claim.turn_id")
    return await bearer_acting_as(request, claim.agent)


def _path_turn(request: Request) -> TurnRef:
    return TurnRef(project_id=path_id(request, "project_id"), turn_id=path_id(request, "turn_id"))


_V = "/v3r1/projects/{project_id}"
_T = _V + "/turns/{turn_id}"
routes: list[Operation] = [
    *dispatches.routes,
    Operation("POST", _T + ":finish", finish, takes=FinishTurn, gives=Done),
    *settlements.routes,
    Operation("GET", _T + "/context", context, query=ContextQuery, headers=("Prefer",), gives=TurnContext),
    Operation("GET", _T + "/feed", feed, query=FeedQuery, headers=("Prefer",), gives=FeedPage),
    Operation(
        "POST",
        _T + "/semantic-records",
        append,
        takes=AppendRecord,
        headers=("Idempotency-Key",),
        gives=CardBoxRef,
    ),
    Operation("POST", _T + ":suspend", suspend, takes=SuspendTurn, gives=Done),
    Operation("POST", _T + ":resume", resume, takes=ResumeTurn, gives=Done),
    *messages.routes,
    *redo.routes,
    Operation("GET", _T, get, query=TurnQuery, headers=("Prefer",), gives=TurnSnapshot),
    Operation("POST", _V + "/management/turns/{turn_id}:stop", stop, takes=StopTurn, gives=TurnRef),
]
