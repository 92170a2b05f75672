"""Schedules: turns that the kernel dispatches by a calendar."""

from __future__ import annotations

import uuid
from contextlib import aclosing

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from cgworker.console.console import Console, console_of
from cgworker.console.form_body import read_form
from cgworker.console.render import link, render
from cgworker.errors import KernelLacks
from cgworker.wire.schedules import Schedule

_LIMIT = 200


async def schedules(request: Request) -> Response:
    """Show the schedules."""
    console, lack = console_of(request), None
    items: list[Schedule] = []
    try:
        items = await console.reads.get("schedules", lambda: _read(console))
    except KernelLacks as lacks:
        lack = str(lacks)
    return render(
        request,
        "schedules.html",
        title="Schedules",
        live="*",
        items=items,
        lack=lack,
        limit=_LIMIT,
        trigger_key=uuid.uuid4().hex,
    )


async def _read(console: Console) -> list[Schedule]:
    found: list[Schedule] = []
    async with aclosing(console.kernel.schedules.all(console.project_id)) as every:
        async for schedule in every:
            found.append(schedule)
            if len(found) == _LIMIT:
                break
    return found


async def act(request: Request) -> Response:
    """Pause, unpause, trigger or delete a schedule; deleting is asked first."""
    console, path = console_of(request), request.path_params
    schedule_id, verb = path["schedule_id"], path["verb"]
    calls, agent = console.kernel.schedules, console.agent
    if request.method == "GET":
        if verb != "delete":
            raise HTTPException(405)
        return render(
            request, "delete_schedule.html", title=f"Delete {schedule_id}?", schedule_id=schedule_id
        )
    form = await read_form(request)
    if verb == "trigger":
        turn = await calls.trigger(schedule_id, requested_by=agent, key=form.get("key") or None)
        console.feed.notify()
        return RedirectResponse(link(request, "turns", turn.turn_id), 303)
    if verb == "pause":
        await calls.pause(schedule_id, requested_by=agent)
    elif verb == "unpause":
        await calls.unpause(schedule_id, requested_by=agent)
    elif verb == "delete":
        await calls.delete(console.project_id, schedule_id)
    else:
        raise HTTPException(404)
    console.feed.notify()
    return RedirectResponse(link(request, "schedules"), 303)


routes: list[Route] = [
    Route("/schedules", schedules),
    Route("/schedules/{schedule_id}/{verb}", act, methods=["GET", "POST"]),
]
