"""Ask an MCP client a turn's questions: at its next call, or by a request to it before 2026-07-28."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import anyio
from mcp_types import CallToolResult, ElicitRequest, InputRequiredResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from cgworker.adapters.mcp_mapping import failed_result, form_for
from cgworker.adapters.mcp_turns import CallerTurns
from cgworker.adapters.turn_watch import TurnNews, watch_turn
from cgworker.durable.answers import OpenQuestion
from cgworker.errors import InvalidRequest
from cgworker.wire.refs import TurnRef

_MAX_TRIES = 3


def takes_forms(ctx: Any) -> bool:
    """Return True if the client of a request can ask its user for values.

    Args:
        ctx: the context of the request.
    """
    capabilities = ctx.session.client_capabilities
    taken = capabilities.elicitation if capabilities else None
    return taken is not None and (taken.form is not None or taken.url is None)


async def ask(ctx: Any, turns: CallerTurns, update: TurnNews) -> CallToolResult | InputRequiredResult | None:
    """Have a turn's questions answered by the client.

    Args:
        ctx: the context of the call.
        turns: the caller's turns.
        update: the turn, with its questions.

    Returns:
        The result to give to the client now; None if it has answered.
    """
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return asking_result(update)
    question, fault = update.questions[0], None  # the next one is asked when the turn has read this answer
    for _ in range(_MAX_TRIES):
        response = await _answered(ctx, turns, question, fault)
        if response is None:
            return None
        if response.get("action") == "cancel":
            return dismissed_result(question.turn)
        try:
            await turns.answer(question, response)
        except InvalidRequest as invalid:
            fault = str(invalid)
        else:
            return None
    return failed_result(f"The answers to turn {question.turn.turn_id} were not valid: {fault}")


def asking_result(update: TurnNews, fault: str | None = None) -> InputRequiredResult:
    """Return the result that has a client answer and call again.

    Args:
        update: the turn, with its questions.
        fault: what was wrong with the last answer.
    """
    forms: dict[str, Any] = {
        question.key: ElicitRequest(params=form_for(question, fault)) for question in update.questions
    }
    return InputRequiredResult(input_requests=forms, request_state=update.snapshot.turn.turn_id)


def dismissed_result(turn: TurnRef) -> CallToolResult:
    """Return the result for a client that does not answer: the turn waits on.

    Args:
        turn: the turn.
    """
    return failed_result(f"The question was dismissed; the turn {turn.turn_id} waits on: `cg turn answer`.")


async def _answered(
    ctx: Any, turns: CallerTurns, question: OpenQuestion, fault: str | None
) -> dict[str, Any] | None:
    """Return the client's response; None if somebody else answered, or the turn has ended."""
    response: dict[str, Any] | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(_when_ended, turns, question, group.cancel_scope.cancel)
        form = form_for(question, fault)
        said = await ctx.session.elicit_form(form.message, form.requested_schema, ctx.request_id)
        response = said.model_dump(mode="json")
        group.cancel_scope.cancel()
    return response


async def _when_ended(turns: CallerTurns, question: OpenQuestion, do: Callable[[], None]) -> None:
    watched = watch_turn(turns.kernel, question.turn, with_items=False)
    async with aclosing(watched):
        async for news in watched:
            if all(each.key != question.key for each in news.questions):
                do()
                return
