"""Routes about agents (wire 6.2, 6.3, difference 3)."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.responses import Response

from cgworker.kernel.access import authenticate, require_reader
from cgworker.kernel.http.messages import path_id, read, reply, require_same
from cgworker.kernel.http.request import Request
from cgworker.kernel.long_poll.notifier import agent_topic, agent_topics, work_topic
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.routes.feeds import FeedQuery, feed_response
from cgworker.kernel.store.agents import (
    get_agent,
    register_agent,
    renew_presence,
    replace_metadata,
    set_accepts_work,
    update_agent,
)
from cgworker.kernel.store.callers import Caller
from cgworker.kernel.store.ledger import agent_feed
from cgworker.wire.agents import (
    AgentSnapshot,
    RegisterAgent,
    RenewPresence,
    ReplaceMetadata,
    SetAcceptsWork,
    UpdateAgent,
)
from cgworker.wire.ledger import FeedPage
from cgworker.wire.refs import AgentRef
from cgworker.wire.turns import Done

_REGISTRATION = "agent.registration.birth"


async def register(request: Request) -> Response:
    """Register a new agent."""
    body = await read(request, RegisterAgent)
    project_id = path_id(request, "project_id")
    caller = await authenticate(request)
    require_same(caller.agent.project_id, project_id, "caller project must match path project")
    caller.require_grant(_REGISTRATION)
    kernel = request.kernel
    agent = await register_agent(kernel.database, caller.agent, body.spec, body.provenance)
    kernel.notifier.wake(*agent_topics(agent.agent))
    return reply(agent)


async def get(request: Request) -> Response:
    """The agent's current state."""
    agent = _path_agent(request)
    await require_reader(request, agent.project_id)
    return reply(await get_agent(request.kernel.database, agent))


async def feed(request: Request) -> Response:
    """A page of events of the agent and of the turns addressed to it."""
    agent, kernel = _path_agent(request), request.kernel
    max_items = kernel.config.max_page_items

    def read_page(query: FeedQuery) -> Awaitable[tuple[FeedPage, bool]]:
        after, limit = query.after_ledger_seq, query.limit
        return agent_feed(kernel.database, agent, after=after, limit=limit, max_items=max_items)

    return await feed_response(request, agent.project_id, agent_topic(agent), read_page)


async def drain(request: Request) -> Response:
    """Let the agent accept no more work."""
    return await _set_accepts_work(request, accepts_work=False)


async def resume(request: Request) -> Response:
    """Let the agent accept work again."""
    return await _set_accepts_work(request, accepts_work=True)


async def _set_accepts_work(request: Request, *, accepts_work: bool) -> Response:
    body = await read(request, SetAcceptsWork)
    _require_path_agent(request, body.agent)
    require_same(
        body.requested_by.project_id, body.agent.project_id, "requested_by project must match path project"
    )
    caller = await authenticate(request)
    caller.require_is(body.requested_by)
    kernel = request.kernel
    may_update_any = caller.holds("agent.accepts_work.update.any")
    if await set_accepts_work(kernel.database, body, accepts_work, may_update_any=may_update_any):
        kernel.notifier.wake(work_topic(body.agent), *agent_topics(body.agent))
    return reply(Done())


async def heartbeat_presence(request: Request) -> Response:
    """Note that the agent is alive."""
    body = await read(request, RenewPresence)
    await _require_self(request, body.agent)
    await renew_presence(request.kernel.database, body.agent)
    return reply(Done())


async def public_metadata(request: Request) -> Response:
    """Replace the agent's own public metadata."""
    body = await read(request, ReplaceMetadata)
    await _require_self(request, body.agent)
    await replace_metadata(request.kernel.database, body)
    return reply(Done())


async def update(request: Request) -> Response:
    """Change capacity, enabled, capabilities or grants (difference 3)."""
    body = await read(request, UpdateAgent)
    _require_path_agent(request, body.agent)
    require_same(
        body.requested_by.project_id, body.agent.project_id, "requested_by project must match path project"
    )
    caller = await authenticate(request)
    caller.require_is(body.requested_by)
    caller.require_grant(_REGISTRATION)
    kernel = request.kernel
    agent = await update_agent(kernel.database, body)
    kernel.notifier.wake(work_topic(body.agent), *agent_topics(body.agent))
    return reply(agent)


async def _require_self(request: Request, agent: AgentRef) -> Caller:
    _require_path_agent(request, agent)
    caller = await authenticate(request)
    caller.require_is(agent)
    return caller


def _require_path_agent(request: Request, agent: AgentRef) -> None:
    path = _path_agent(request)
    require_same(agent.project_id, path.project_id, "agent project must match path project")
    require_same(agent.agent_id, path.agent_id, "path agent_id must match request agent")


def _path_agent(request: Request) -> AgentRef:
    return AgentRef(project_id=path_id(request, "project_id"), agent_id=path_id(request, "agent_id"))


_V = "/v3r1/projects/{project_id}"
_M = _V + "/management/agents/{agent_id}"
routes: list[Operation] = [
    Operation("POST", _V + "/agents:register", register, takes=RegisterAgent, gives=AgentSnapshot),
    Operation("GET", _V + "/agents/{agent_id}", get, gives=AgentSnapshot),
    Operation(
        "GET", _V + "/agents/{agent_id}/feed", feed, query=FeedQuery, headers=("Prefer",), gives=FeedPage
    ),
    Operation("POST", _M + ":drain", drain, takes=SetAcceptsWork, gives=Done),
    Operation("POST", _M + ":resume", resume, takes=SetAcceptsWork, gives=Done),
    Operation("POST", _M + ":heartbeat-presence", heartbeat_presence, takes=RenewPresence, gives=Done),
    Operation("POST", _M + ":update", update, takes=UpdateAgent, gives=AgentSnapshot),
    Operation("PUT", _M + "/public-metadata", public_metadata, takes=ReplaceMetadata, gives=Done),
]
