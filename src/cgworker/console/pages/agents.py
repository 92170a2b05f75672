"""Agents: who is live, what they hold, and what they offer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cgworker.console.console import Console, console_of
from cgworker.console.pages.overview import read_open
from cgworker.console.reads import read_each
from cgworker.console.render import link, render
from cgworker.errors import KernelLacks, KernelRefused, UsageError
from cgworker.wire.agents import AgentSnapshot
from cgworker.wire.projections import AgentEntry
from cgworker.wire.refs import AgentRef

_PAGE = 25
_LIVE = timedelta(minutes=10)  # a worker that publishes its presence does so every five minutes


async def agents(request: Request) -> Response:
    """Show a page of agents."""
    console, after = console_of(request), request.query_params.get("after") or None
    lack: str | None = None
    items: tuple[AgentEntry, ...] = ()
    try:
        read = partial(
            console.kernel.projections.agents, console.project_id, after_agent_id=after, limit=_PAGE
        )
        items = (await console.reads.get(("agents", after), read)).items
    except KernelLacks as lacks:
        lack = str(lacks)
    running = await read_open(console, "running")
    held = Counter(entry.target_agent_id for entry in running.entries)
    snapshots = await _snapshots_of(console, [entry.agent_id for entry in items])
    return render(
        request,
        "agents.html",
        title="Agents",
        live="*",
        rows=[(entry, snapshots[entry.agent_id], held[entry.agent_id], _is_live(entry)) for entry in items],
        offered={entry.agent_id: offered_kinds(entry.public_metadata) for entry in items},
        lack=lack,
        newest=link(request, "agents") if after else None,
        older=link(request, "agents", after=items[-1].agent_id) if len(items) == _PAGE else None,
    )


def offered_kinds(metadata: Any) -> list[str]:
    """Return the kinds that an agent's public metadata offers."""
    offers = metadata.get("turn_offers") or ()
    return [str(offer["turn_kind"]) for offer in offers if isinstance(offer, dict) and "turn_kind" in offer]


async def _snapshots_of(console: Console, agent_ids: Sequence[str]) -> dict[str, AgentSnapshot | None]:
    """Read the agents' capacities, which the list does not tell; None for an agent that cannot be read."""

    async def look_up(agent_id: str) -> AgentSnapshot | None:
        ref = AgentRef(project_id=console.project_id, agent_id=agent_id)
        try:
            return await console.reads.get(("agent", agent_id), partial(console.kernel.agents.get, ref))
        except (KernelRefused, UsageError):
            return None

    return await read_each(agent_ids, look_up)


def _is_live(entry: AgentEntry) -> bool:
    return entry.last_seen_at is not None and datetime.now(UTC) - entry.last_seen_at < _LIVE


routes: list[Route] = [Route("/agents", agents)]
