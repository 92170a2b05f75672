"""Overview: plots of the last minutes to the last day, and which agents have turns waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cgworker.console.console import Console, console_of
from cgworker.console.history import WINDOWS
from cgworker.console.pages.turns import number_of
from cgworker.console.render import render
from cgworker.errors import KernelLacks
from cgworker.wire.projections import TurnEntry

_PAGE = 500
_MAX_PAGES = 4  # of the turns in one state
_MAX_AGENTS = 30
_STEPS = 150  # numbers in a plot, about
_NAMES = {300: "5 min", 3600: "1 h", 21600: "6 h", 86400: "24 h"}


@frozen(kw_only=True)
class AgentLoad:
    """What an agent has to do."""

    agent_id: str
    queued: int
    held: int
    oldest: datetime | None


@frozen(kw_only=True)
class Open:
    """The open turns of one state; `is_cut` if there are more than were read."""

    entries: tuple[TurnEntry, ...]
    is_cut: bool


async def overview(request: Request) -> Response:
    """Show the plots and the queues."""
    console, window = console_of(request), _window_of(request)
    queued, running, suspended = [
        await read_open(console, state) for state in ("queued", "running", "suspended")
    ]
    return render(
        request,
        "overview.html",
        title="Overview",
        live="*",
        window=window,
        windows=[(each, _NAMES[each]) for each in WINDOWS],
        counts=[("Queued", queued), ("Running", running), ("Suspended", suspended)],
        loads=_loads(queued.entries, running.entries)[:_MAX_AGENTS],
        numbers={
            **console.history.buckets.series(
                end=datetime.now(UTC).timestamp(),
                window=window,
                step=max(10, window // _STEPS // 10 * 10),
                queued=len(queued.entries),
                held=len(running.entries),
            ),
            "loaded": console.history.loaded_seconds,
        },
    )


async def read_open(console: Console, state: str) -> Open:
    """Read the turns in a state, up to two thousand, for all tabs at once.

    Args:
        console: the console.
        state: the state.

    Raises:
        KernelRefused, KernelTrouble: a call failed.
    """

    async def read() -> Open:
        entries: list[TurnEntry] = []
        for _ in range(_MAX_PAGES):
            before = entries[-1].project_turn_seq if entries else None
            try:
                page = await console.kernel.projections.turns(
                    console.project_id, state=state, before_turn_seq=before, limit=_PAGE
                )
            except KernelLacks:
                break
            entries += page.items
            if len(page.items) < _PAGE:
                return Open(entries=tuple(entries), is_cut=False)
        return Open(entries=tuple(entries), is_cut=True)

    return await console.reads.get(("open", state), read)


def _loads(queued: Sequence[TurnEntry], running: Sequence[TurnEntry]) -> list[AgentLoad]:
    waiting = Counter(entry.target_agent_id for entry in queued)
    held = Counter(entry.target_agent_id for entry in running)
    oldest: dict[str, Any] = {}
    for entry in queued:
        at = entry.updated_at
        oldest[entry.target_agent_id] = min(oldest.get(entry.target_agent_id, at), at)
    agents = sorted(waiting | held, key=lambda agent: (-waiting[agent], -held[agent], agent))
    return [
        AgentLoad(agent_id=agent, queued=waiting[agent], held=held[agent], oldest=oldest.get(agent))
        for agent in agents
    ]


def _window_of(request: Request) -> int:
    window = number_of(request.query_params.get("window"))
    return window if window in WINDOWS else WINDOWS[0]


routes: list[Route] = [Route("/", overview)]
