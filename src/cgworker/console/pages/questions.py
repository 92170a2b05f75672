"""Questions: what suspended turns ask, and forms to answer and decline it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from cgworker.console.console import Console, console_of
from cgworker.console.form_body import read_form
from cgworker.console.forms import SchemaForm
from cgworker.console.pages.turns import number_of, read_turns
from cgworker.console.reads import read_each
from cgworker.console.render import link, render
from cgworker.durable.answers import OpenQuestion, answer_question, decline_question, questions_of
from cgworker.errors import ConflictError, InvalidRequest, KernelLacks, KernelRefused
from cgworker.wire.absent import ABSENT

_TURNS = 20  # suspended turns that one page looks into


async def questions(request: Request) -> Response:
    """Show the questions of a page of suspended turns, the newest first, or of one turn."""
    console, one = console_of(request), request.query_params.get("turn")
    before, older, lack = number_of(request.query_params.get("before")), None, None
    turn_ids = [one] if one else []
    if not one:
        try:
            page = await read_turns(console, {"state": "suspended"}, before, _TURNS)
            turn_ids = [entry.turn_id for entry in page.items]
            older = page.items[-1].project_turn_seq if len(turn_ids) == _TURNS else None
        except KernelLacks as lacks:
            lack = str(lacks)
    return render(
        request,
        "questions.html",
        title="Questions",
        live="*",
        questions=await _questions_of(console, turn_ids),
        newest=link(request, "questions") if before or one else None,
        older=link(request, "questions", before=older) if older else None,
        lack=lack,
    )


async def _questions_of(console: Console, turn_ids: list[str]) -> list[OpenQuestion]:
    async def look_into(turn_id: str) -> tuple[OpenQuestion, ...]:
        read = partial(questions_of, console.kernel, console.turn(turn_id))
        return await console.reads.get(("questions", turn_id), read)

    found = await read_each(turn_ids, look_into)
    return [question for turn_id in turn_ids for question in found[turn_id]]


async def question(request: Request) -> Response:
    """Show one question with a form for its answer."""
    asked = await _asked(request, request.query_params.get("key", ""))
    return _show(request, asked, SchemaForm(asked.schema, label="Answer"), uuid.uuid4().hex)


async def answer(request: Request) -> Response:
    """Answer the question; a refused answer shows its faults at the fields."""
    console, typed = console_of(request), await read_form(request)
    asked = await _asked(request, typed.get("key", ""))
    filled, answer_id = SchemaForm(asked.schema, label="Answer", typed=typed), typed.get("id", "")
    if "add" in typed or "remove" in typed:
        return _show(request, asked, filled, answer_id)
    value = filled.read()
    if value is ABSENT:
        return _show(request, asked, filled, answer_id, status=422)
    try:
        await answer_question(console.kernel, asked.turn, value, key=asked.key, answer_id=answer_id or None)
    except InvalidRequest as invalid:
        filled.note(invalid.faults)
        return _show(request, asked, filled, answer_id, status=422)
    except KernelRefused as refused:
        return _show(request, asked, filled, answer_id, status=refused.status, problem=str(refused))
    return _done(request)


async def decline(request: Request) -> Response:
    """Decline the question."""
    console, typed = console_of(request), await read_form(request)
    asked = await _asked(request, typed.get("key", ""))
    reason, answer_id = typed.get("reason") or None, typed.get("id") or None
    await decline_question(console.kernel, asked.turn, reason, key=asked.key, answer_id=answer_id)
    return _done(request)


async def _asked(request: Request, key: str) -> OpenQuestion:
    turn = console_of(request).turn(request.path_params["turn_id"])
    for found in await questions_of(console_of(request).kernel, turn):
        if found.key == key:
            return found
    raise ConflictError(f"{turn.turn_id} has no open question {key[:80]!r}: it was answered already")


def _done(request: Request) -> Response:
    turn_id = request.path_params["turn_id"]
    console_of(request).feed.notify({turn_id})
    return RedirectResponse(link(request, "turns", turn_id), 303)


def _show(
    request: Request,
    question: OpenQuestion,
    filled: SchemaForm,
    answer_id: str,
    *,
    status: int = 200,
    problem: str | None = None,
) -> Response:
    context: Mapping[str, Any] = {"question": question, "form": filled, "answer_id": answer_id}
    return render(
        request,
        "question.html",
        title="Question",
        status=status,
        turn_id=request.path_params["turn_id"],
        problems=[problem] if problem else [],
        **context,
    )


routes: list[Route] = [
    Route("/questions", questions),
    Route("/questions/{turn_id}", question),
    Route("/questions/{turn_id}/answer", answer, methods=["POST"]),
    Route("/questions/{turn_id}/decline", decline, methods=["POST"]),
]
