"""Turns: the project's turns, newest first, filtered by the address of the page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from cgworker.console.console import Console, console_of
from cgworker.console.render import link, render
from cgworker.errors import KernelLacks
from cgworker.wire.projections import TurnPage

PAGE_SIZE = 100
STATES = ("queued", "running", "suspended", "closed")
OUTCOMES = ("succeeded", "failed", "stopped")


async def turns(request: Request) -> Response:
    """Show a page of turns."""
    console, filters = console_of(request), filters_of(request.query_params)
    before = number_of(request.query_params.get("before"))
    lack = None
    try:
        page = await read_turns(console, filters, before)
    except KernelLacks as lacks:
        lack, page = str(lacks), None
    items = page.items if page else ()
    older = items[-1].project_turn_seq if len(items) == PAGE_SIZE else None
    return render(
        request,
        "turns.html",
        title="Turns",
        live="*",
        items=items,
        filters=filters,
        states=STATES,
        outcomes=OUTCOMES,
        lack=lack,
        newest=link(request, "turns", **filters) if before else None,
        older=link(request, "turns", **filters, before=older) if older else None,
    )


async def find(request: Request) -> Response:
    """Go to the turn whose number was typed."""
    typed = re.sub(r"[^0-9]", "", request.query_params.get("id", ""))[:18]
    return RedirectResponse(link(request, "turns", f"T-{typed}") if typed else link(request, "turns"), 303)


def filters_of(query: Mapping[str, str]) -> dict[str, Any]:
    """Return the filters that the address of the page names."""
    state, outcome = query.get("state", ""), query.get("outcome", "")
    return {
        "state": state if state in STATES else "",
        "outcome": outcome if outcome in OUTCOMES else "",
        "agent": query.get("agent", "").strip()[:200],
        "kind": query.get("kind", "").strip()[:200],
        "stop": "1" if query.get("stop") else "",
    }


async def read_turns(
    console: Console, filters: Mapping[str, Any], before: int | None = None, limit: int = PAGE_SIZE
) -> TurnPage:
    """Read a page of turns, for all tabs at once.

    Args:
        console: the console.
        filters: as from `filters_of`.
        before: only turns with a lower number; None begins with the newest.
        limit: how many at most.

    Raises:
        KernelLacks: the kernel cannot begin a list at a given turn.
        KernelRefused, KernelTrouble: the call failed.
    """
    read = partial(
        console.kernel.projections.turns,
        console.project_id,
        target_agent_id=filters.get("agent") or None,
        turn_kind=filters.get("kind") or None,
        state=filters.get("state") or None,
        outcome=filters.get("outcome") or None,
        stop_requested_only=bool(filters.get("stop")) or None,
        before_turn_seq=before,
        limit=limit,
    )
    return await console.reads.get(("turns", *sorted(filters.items()), before, limit), read)


def number_of(text: str | None) -> int | None:
    """Return a number of the address of the page; None if it is none."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 18 else None


routes: list[Route] = [Route("/turns", turns), Route("/find", find)]
