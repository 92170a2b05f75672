"""Dispatch: what agents offer, and a form for the input of a turn."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from cgworker.console.console import Console, console_of
from cgworker.console.form_body import read_form
from cgworker.console.forms import SchemaForm
from cgworker.console.render import link, render
from cgworker.errors import KernelLacks, KernelRefused, UsageError
from cgworker.wire.absent import ABSENT
from cgworker.wire.projections import OfferEntry
from cgworker.wire.refs import AgentRef
from cgworker.wire.turns import Dispatch, RootRequest

_LIMIT = 200
_ORDERS = (
    ("delay_seconds", "Delay in seconds"),
    ("priority", "Priority, -100 to 100"),
    ("serial_key", "Serial key"),
    ("fairness_key", "Fairness key"),
)


async def offers(request: Request) -> Response:
    """Show what agents offer, or go to the form of the agent and kind that were typed."""
    console = console_of(request)
    agent, kind = (request.query_params.get(name, "").strip() for name in ("agent", "kind"))
    if agent and kind:
        return RedirectResponse(link(request, "dispatch", agent, kind), 303)

    async def read() -> Any:
        return await console.kernel.projections.turn_offers(
            console.project_id, agent_id=agent or None, limit=_LIMIT
        )

    page = await console.reads.get(("offers", agent), read)
    return render(request, "dispatch.html", title="Dispatch", live="*", offers=page.items, limit=_LIMIT)


async def form(request: Request) -> Response:
    """Show the form of an offer."""
    offer = await _offer_of(request)
    return _show(request, offer, SchemaForm(_schema_of(offer), label="Input"), {"key": uuid.uuid4().hex})


async def dispatch(request: Request) -> Response:
    """Dispatch the turn that was typed; a fault is shown at its field."""
    console, typed, offer = console_of(request), await read_form(request), await _offer_of(request)
    filled = SchemaForm(_schema_of(offer), label="Input", typed=typed)
    if "add" in typed or "remove" in typed:
        return _show(request, offer, filled, typed)
    value = filled.read()
    if value is ABSENT:
        return _show(request, offer, filled, typed, status=422)
    try:
        turn = await console.kernel.turns.dispatch(_dispatch_of(console, request, value, typed))
    except (KernelRefused, KernelLacks, UsageError) as refused:
        status = 422 if isinstance(refused, UsageError) else refused.status
        return _show(request, offer, filled, typed, status=status, problem=str(refused))
    console.feed.notify()
    return RedirectResponse(link(request, "turns", turn.turn_id), 303)


def _dispatch_of(console: Console, request: Request, value: Any, typed: Mapping[str, str]) -> Dispatch:
    key = typed.get("key", "")
    return Dispatch(
        requested_by=console.agent,
        target_agent=AgentRef(project_id=console.project_id, agent_id=request.path_params["agent"]),
        input=value,
        turn_kind=request.path_params["kind"],
        dispatch_key=key,
        authority=RootRequest(request_id=key),
        delay_seconds=_number(typed, "delay_seconds", float),
        priority=_number(typed, "priority", int),
        serial_key=typed.get("serial_key") or ABSENT,
        fairness_key=typed.get("fairness_key") or ABSENT,
    )


def _number(typed: Mapping[str, str], name: str, kind: Any) -> Any:
    text = typed.get(name, "").strip()
    if not text:
        return ABSENT
    try:
        if math.isfinite(number := kind(text)):
            return number
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"{name}: {text[:40]!r} is not a number") from None


async def _offer_of(request: Request) -> OfferEntry | None:
    console, path = console_of(request), request.path_params

    async def read() -> Any:
        return await console.kernel.projections.turn_offers(
            console.project_id, agent_id=path["agent"], turn_kind=path["kind"], limit=1
        )

    page = await console.reads.get(("offer", path["agent"], path["kind"]), read)
    return page.items[0] if page.items else None


def _schema_of(offer: OfferEntry | None) -> Mapping[str, Any]:
    """Return the schema of the input; without one, of an object with the fields that are required."""
    contract = offer.input_contract if offer else {}
    schema, required = contract.get("json_schema"), contract.get("required_fields")
    if isinstance(schema, Mapping) and schema:
        return schema
    if isinstance(required, list) and required and all(isinstance(name, str) for name in required):
        return {"type": "object", "properties": {name: {} for name in required}, "required": required}
    return {}


def _show(
    request: Request,
    offer: OfferEntry | None,
    filled: SchemaForm,
    typed: Mapping[str, str],
    *,
    status: int = 200,
    problem: str | None = None,
) -> Response:
    return render(
        request,
        "dispatch_form.html",
        title="Dispatch",
        status=status,
        agent=request.path_params["agent"],
        kind=request.path_params["kind"],
        purpose=offer.purpose if offer else None,
        form=filled,
        key=typed.get("key", ""),
        orders=_ORDERS,
        order={name: typed.get(name, "") for name, _ in _ORDERS},
        problems=[problem] if problem else [],
    )


routes: list[Route] = [
    Route("/dispatch", offers),
    Route("/dispatch/{agent}/{kind:path}", form, methods=["GET"]),
    Route("/dispatch/{agent}/{kind:path}", dispatch, methods=["POST"]),
]
