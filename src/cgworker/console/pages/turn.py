"""Turn: one turn's life, records, questions and children, and what can be done with it."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

from attrs import frozen
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from cgworker.console.console import Console, console_of
from cgworker.console.form_body import read_form
from cgworker.console.life import bars_of, phases_of
from cgworker.console.pages.turns import number_of
from cgworker.console.reads import read_each
from cgworker.console.render import link, render
from cgworker.console.text import in_ascii, laid_out
from cgworker.errors import NotFoundError
from cgworker.why import reasons_for, story_of
from cgworker.wire.converter import loads
from cgworker.wire.projections import TurnEntry

_MAX_CHILDREN = 100
_MAX_LOOKED_INTO = 30  # children whose own children are shown


@frozen(kw_only=True)
class ChildTree:
    """A child of a turn in the tree, with its own children."""

    entry: TurnEntry
    children: tuple[ChildTree, ...] = ()


async def turn(request: Request) -> Response:
    """Show a turn."""
    console, turn_id = console_of(request), request.path_params["turn_id"]
    reader = console.reader_of(turn_id)
    snapshot = await reader.read(console.feed.version)
    events = list(reader.events)
    phases = phases_of(snapshot, events)
    if not reader.is_complete:
        console.feed.notify({turn_id})  # so that the tab asks for the rest
    return render(
        request,
        "turn.html",
        title=f"Turn {turn_id}",
        live=turn_id,
        turn=snapshot,
        reader=reader,
        records=list(reader.records),
        phases=phases,
        bars=bars_of(phases),
        reasons=[reason async for reason in reasons_for(console.kernel, snapshot, events)],
        story=list(story_of(reader.turn, events)),
        children=await _children_of(console, turn_id),
        steps=[record for record in reader.records if record.role == "step"],
        message_key=uuid.uuid4().hex,
    )


async def record(request: Request) -> Response:
    """Return the whole payload of a record, as text."""
    console = console_of(request)
    ref, seq = console.turn(request.path_params["turn_id"]), number_of(request.path_params["seq"])
    if not seq:
        raise HTTPException(404)
    page = await console.kernel.turns.context(ref, after_turn_seq=seq - 1, limit=1)
    if not page.semantic_items or page.semantic_items[0].record.turn_seq != seq:
        raise NotFoundError(f"{ref.turn_id} has no record {seq}")
    payload = page.semantic_items[0].payload
    return PlainTextResponse(in_ascii(laid_out(payload)))


async def _children_of(console: Console, turn_id: str) -> tuple[ChildTree, ...]:
    """Return the children of a turn, and theirs, of the first thirty."""
    own = await _lineage(console, turn_id)
    turn_ids = [entry.turn_id for entry in own[:_MAX_LOOKED_INTO]]
    below = await read_each(turn_ids, partial(_lineage, console))
    return tuple(
        ChildTree(entry=entry, children=tuple(ChildTree(entry=each) for each in below.get(entry.turn_id, ())))
        for entry in own
    )


async def _lineage(console: Console, turn_id: str) -> tuple[TurnEntry, ...]:
    async def read() -> Any:
        return await console.kernel.projections.lineage(console.project_id, turn_id, limit=_MAX_CHILDREN)

    found = await console.reads.get(("lineage", turn_id), read)
    children: tuple[TurnEntry, ...] = found.direct_children
    return children


# ---------------------------------------------------------------- what can be done


async def tell(request: Request) -> Response:
    """Send the turn a message: JSON if it is any, else text."""
    console, form = console_of(request), await read_form(request)
    message, key = json_or_text(form.get("message", "")), form.get("key") or None
    await console.kernel.turns.tell(_turn_of(request), message, key=key)
    return _back_to(request, _turn_of(request).turn_id)


async def resume(request: Request) -> Response:
    """Return the suspended turn to the queue."""
    console, _ = console_of(request), await read_form(request)
    await console.kernel.turns.resume(_turn_of(request), requested_by=console.agent)
    return _back_to(request, _turn_of(request).turn_id)


async def stop(request: Request) -> Response:
    """Ask whether to stop the turn, and request it."""
    console, ref = console_of(request), _turn_of(request)
    if request.method == "GET":
        return render(request, "confirm.html", title=f"Stop {ref.turn_id}?", verb="stop", turn_id=ref.turn_id)
    await read_form(request)
    await console.kernel.turns.stop(ref, requested_by=console.agent)
    return _back_to(request, ref.turn_id)


async def redo(request: Request) -> Response:
    """Ask whether to do the closed turn again, and dispatch its input anew."""
    console, ref = console_of(request), _turn_of(request)
    if request.method == "GET":
        title = f"Do {ref.turn_id} again?"
        return render(request, "confirm.html", title=title, verb="redo", turn_id=ref.turn_id)
    form = await read_form(request)
    again = await console.kernel.turns.redo(ref, keep_steps=bool(form.get("keep_steps")))
    return _back_to(request, again.turn_id)


def json_or_text(typed: str) -> Any:
    """Return what was typed as a JSON value if it is one, else as text."""
    try:
        return loads(typed)
    except (ValueError, RecursionError):
        return typed


def _turn_of(request: Request) -> Any:
    return console_of(request).turn(request.path_params["turn_id"])


def _back_to(request: Request, turn_id: str) -> Response:
    console_of(request).feed.notify({turn_id})
    return RedirectResponse(link(request, "turns", turn_id), 303)


routes: list[Route] = [
    Route("/turns/{turn_id}", turn),
    Route("/turns/{turn_id}/records/{seq}", record),
    Route("/turns/{turn_id}/tell", tell, methods=["POST"]),
    Route("/turns/{turn_id}/resume", resume, methods=["POST"]),
    Route("/turns/{turn_id}/stop", stop, methods=["GET", "POST"]),
    Route("/turns/{turn_id}/redo", redo, methods=["GET", "POST"]),
]
