"""Routes about projections (protocol.md 11)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cgworker.kernel.access import authenticate
from cgworker.kernel.http import Query, path_id, reply
from cgworker.kernel.store import projections
from cgworker.kernel.waiting import Preferences, look_until
from cgworker.kernel.wakeups import feed_key
from cgworker.wire.refs import TurnRef


async def agents(request: Request) -> Response:
    """Agents by id."""
    project_id, query = path_id(request, "project_id"), Query(request)
    filters: dict[str, Any] = {
        "agent_id": query.text("agent_id"),
        "role": query.text("role"),
        "capability": query.text("capability"),
    }
    flags: dict[str, Any] = {name: query.flag(name) for name in ("enabled_only", "accepts_work_only")}
    limit = _limit(query)
    await _require_reads(request, project_id)
    database = request.app.state.kernel.database
    return reply(await projections.list_agents(database, project_id, **filters, **flags, limit=limit))


async def turn_offers(request: Request) -> Response:
    """What agents say they can do."""
    project_id, query = path_id(request, "project_id"), Query(request)
    filters: dict[str, Any] = {"turn_kind": query.text("turn_kind"), "agent_id": query.text("agent_id")}
    flags: dict[str, Any] = {name: query.flag(name) for name in ("enabled_only", "accepts_work_only")}
    limit = _limit(query)
    await _require_reads(request, project_id)
    database = request.app.state.kernel.database
    return reply(await projections.list_offers(database, project_id, **filters, **flags, limit=limit))


async def turns(request: Request) -> Response:
    """Turns, the newest first."""
    project_id, query = path_id(request, "project_id"), Query(request)
    names = ("target_agent_id", "turn_kind", "state", "outcome")
    filters = {name: query.text(name) for name in names}
    stopping = query.flag("stop_requested_only")
    limit = _limit(query)
    await _require_reads(request, project_id)
    page = await projections.list_turns(
        request.app.state.kernel.database,
        project_id,
        **filters,
        stop_requested_only=stopping,
        limit=limit,
    )
    return reply(page)


async def lineage(request: Request) -> Response:
    """A turn and its children."""
    ref = TurnRef(project_id=path_id(request, "project_id"), turn_id=path_id(request, "turn_id"))
    limit = _limit(Query(request))
    await _require_reads(request, ref.project_id)
    return reply(await projections.get_lineage(request.app.state.kernel.database, ref, limit=limit))


async def feed(request: Request) -> Response:
    """The project's events after a number."""
    project_id, query, preferences = path_id(request, "project_id"), Query(request), Preferences(request)
    after = query.integer("after_ledger_seq", 0, least=0)
    limit = _limit(query)
    await _require_reads(request, project_id)
    page = await look_until(
        request,
        [feed_key(project_id)],
        lambda: projections.list_events(
            request.app.state.kernel.database, project_id, after=after, limit=limit
        ),
        is_news=lambda found: bool(found.items),
        wait_seconds=preferences.wait_seconds,
    )
    return reply(page, headers=preferences.applied())


def _limit(query: Query) -> int:
    limit = query.integer("limit", 100, least=1, most=500)
    query.check()
    return limit


async def _require_reads(request: Request, project_id: str) -> None:
    (await authenticate(request)).require_reads(project_id)


_P = "/v3r1/projects/{project_id}/projection"
routes = [
    Route(_P + "/agents", agents, methods=["GET"]),
    Route(_P + "/turn-offers", turn_offers, methods=["GET"]),
    Route(_P + "/turns", turns, methods=["GET"]),
    Route(_P + "/turns/{turn_id}/lineage", lineage, methods=["GET"]),
    Route(_P + "/feed", feed, methods=["GET"]),
]
