"""Routes about projections (wire 11)."""

from __future__ import annotations

from attrs import asdict, frozen
from starlette.responses import Response

from cgworker.kernel.access import reader_check, require_reader
from cgworker.kernel.http.messages import int_field, path_id, read_query, reply
from cgworker.kernel.http.request import Request
from cgworker.kernel.long_poll.long_poll import Preferences
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.store import projections
from cgworker.kernel.store.projections import FeedPlace
from cgworker.wire.projections import AgentPage, EventPage, Lineage, OfferPage, TurnPage
from cgworker.wire.refs import TurnRef


@frozen(kw_only=True)
class AgentsQuery:
    """Which agents, and how many at most."""

    agent_id: str | None = None
    enabled_only: bool = False
    accepts_work_only: bool = False
    role: str | None = None
    capability: str | None = None
    after_agent_id: str | None = None
    limit: int = int_field(100, minimum=1, maximum=500)


@frozen(kw_only=True)
class OffersQuery:
    """Which offers, and how many at most."""

    turn_kind: str | None = None
    agent_id: str | None = None
    enabled_only: bool = False
    accepts_work_only: bool = False
    limit: int = int_field(100, minimum=1, maximum=500)


@frozen(kw_only=True)
class TurnsQuery:
    """Which turns, and how many at most."""

    target_agent_id: str | None = None
    turn_kind: str | None = None
    state: str | None = None
    outcome: str | None = None
    stop_requested_only: bool = False
    before_turn_seq: int = int_field(0, minimum=0)
    limit: int = int_field(100, minimum=1, maximum=500)


@frozen(kw_only=True)
class LineageQuery:
    """How many children at most."""

    limit: int = int_field(100, minimum=1, maximum=500)


@frozen(kw_only=True)
class EventsQuery:
    """After which event, and how many at most."""

    after_ledger_seq: int = int_field(0, minimum=0)
    limit: int = int_field(100, minimum=1, maximum=500)


async def agents(request: Request) -> Response:
    """Agents by id."""
    project_id, query = path_id(request, "project_id"), read_query(request, AgentsQuery)
    await require_reader(request, project_id)
    database = request.kernel.database
    return reply(await projections.list_agents(database, project_id, **asdict(query)))


async def turn_offers(request: Request) -> Response:
    """What agents say they can do."""
    project_id, query = path_id(request, "project_id"), read_query(request, OffersQuery)
    await require_reader(request, project_id)
    database = request.kernel.database
    return reply(await projections.list_offers(database, project_id, **asdict(query)))


async def turns(request: Request) -> Response:
    """Turns, the newest first."""
    project_id, query = path_id(request, "project_id"), read_query(request, TurnsQuery)
    await require_reader(request, project_id)
    database = request.kernel.database
    return reply(await projections.list_turns(database, project_id, **asdict(query)))


async def lineage(request: Request) -> Response:
    """A turn and its children."""
    ref = TurnRef(project_id=path_id(request, "project_id"), turn_id=path_id(request, "turn_id"))
    query = read_query(request, LineageQuery)
    await require_reader(request, ref.project_id)
    database = request.kernel.database
    return reply(await projections.get_lineage(database, ref, limit=query.limit))


async def feed(request: Request) -> Response:
    """The project's events after a number."""
    project_id, query = path_id(request, "project_id"), read_query(request, EventsQuery)
    preferences, kernel = Preferences(request), request.kernel
    place = FeedPlace(query.after_ledger_seq, query.limit)
    check = reader_check(request, project_id)
    await check()
    if not preferences.wait_seconds:
        page = await projections.read_feed(kernel.database, project_id, place)
    else:
        page = await kernel.feed_rounds.next_page(request, project_id, place, preferences.wait_seconds)
        if page.count:
            await check()  # it may have lost its permission meanwhile
    return Response(page.body, headers=preferences.applied(), media_type="application/json")


_P = "/v3r1/projects/{project_id}/projection"
routes: list[Operation] = [
    Operation("GET", _P + "/agents", agents, query=AgentsQuery, gives=AgentPage),
    Operation("GET", _P + "/turn-offers", turn_offers, query=OffersQuery, gives=OfferPage),
    Operation("GET", _P + "/turns", turns, query=TurnsQuery, gives=TurnPage),
    Operation("GET", _P + "/turns/{turn_id}/lineage", lineage, query=LineageQuery, gives=Lineage),
    Operation("GET", _P + "/feed", feed, query=EventsQuery, headers=("Prefer",), gives=EventPage),
]
