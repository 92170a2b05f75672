"""Translate turns, questions and the kernel's errors into MCP's results, tasks, elicitations and errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    TextContent,
)

from cgworker.adapters.messages import is_plain_json, text_of
from cgworker.durable.answers import OpenQuestion
from cgworker.durable.contract import faults_of
from cgworker.errors import InvalidRequest, KernelRefused, KernelTrouble, NotFoundError
from cgworker.wire.converter import dumps, loads
from cgworker.wire.turns import TurnSnapshot

_POLL_MS = 500
_ANSWER = "answer"  # the field of a form that asks for a single value
_PLAIN_TYPES = ("string", "integer", "number", "boolean")


def result_of(turn: TurnSnapshot) -> CallToolResult:
    """Return the result of a call, from its closed turn.

    Args:
        turn: the turn.
    """
    name = turn.turn.turn_id
    if turn.outcome == "stopped":
        return failed_result(f"The turn {name} was stopped.", turn.final_payload)
    if turn.outcome == "failed":
        return failed_result(text_of(turn.final_payload), turn.final_payload)
    said = [] if turn.final_cardbox_ref is None else [TextContent(text=text_of(turn.final_payload))]
    return CallToolResult(content=list(said), structured_content=_structured(turn.final_payload))


def failed_result(text: str, content: Any = None) -> CallToolResult:
    """Return a result that tells the model what went wrong.

    Args:
        text: what went wrong.
        content: the same as a value, which is added if it is an object.
    """
    return CallToolResult(
        content=[TextContent(text=text)], structured_content=_structured(content), is_error=True
    )


def _structured(value: Any) -> Any:
    """Return an object as it is, and None for anything that MCP cannot carry.

    Protocols before 2026-07-28 take objects only. The text has everything.
    """
    return value if isinstance(value, dict) and is_plain_json(value) else None


def new_task_of(turn: TurnSnapshot) -> dict[str, Any]:
    """Return a turn as a task that was just made, which is always working, of the extension for tasks.

    Args:
        turn: the turn.
    """
    return {
        "taskId": turn.turn.turn_id,
        "status": "working",
        "createdAt": turn.created_at.isoformat(),
        "lastUpdatedAt": turn.updated_at.isoformat(),
        "ttlMs": None,
        "pollIntervalMs": _POLL_MS,
    }


def task_of(turn: TurnSnapshot, questions: Iterable[OpenQuestion] = ()) -> dict[str, Any]:
    """Return a turn as a task of the extension `io.modelcontextprotocol/tasks`.

    Args:
        turn: the turn.
        questions: its open questions.
    """
    asked = {
        question.key: ElicitRequest(params=form_for(question)).model_dump(
            by_alias=True, mode="json", exclude_none=True
        )
        for question in questions
    }
    if turn.state == "closed":
        return {**new_task_of(turn), **_ending_of(turn)}
    if asked and not turn.stop_requested:
        return {**new_task_of(turn), "status": "input_required", "inputRequests": asked}
    return new_task_of(turn)


def _ending_of(turn: TurnSnapshot) -> dict[str, Any]:
    if turn.outcome == "stopped":
        return {"status": "cancelled"}
    if turn.outcome == "failed":
        text = text_of(turn.final_payload)
        error = {"code": INTERNAL_ERROR, "message": text, "data": _structured(turn.final_payload)}
        return {"status": "failed", "statusMessage": text, "error": error}
    result = result_of(turn).model_dump(by_alias=True, mode="json", exclude_none=True)
    return {"status": "completed", "result": result}


# ------------------------------------------------------------ questions


def form_for(question: OpenQuestion, fault: str | None = None) -> ElicitRequestFormParams:
    """Return a question as a form, which has only plain fields in MCP.

    An object of plain fields is asked for as it is, another plain value in the field `answer`, and anything
    else there as JSON.

    Args:
        question: the question.
        fault: what was wrong with the last answer, to be told with the question.
    """
    form, message = dict(question.schema), text_of(question.question)
    if fault is not None:
        message = f"{message}\n\n{fault}"
    if not _is_form(form):
        if not _is_plain(form):
            form = {"type": "string", "description": f"JSON that matches {dumps(form).decode()}"}
        form = {"type": "object", "properties": {_ANSWER: form}, "required": [_ANSWER]}
    return ElicitRequestFormParams(message=message, requested_schema=form)


def value_in(content: Mapping[str, Any], question: OpenQuestion) -> Any:
    """Return the answer that an accepted form gives to a question.

    Args:
        content: the fields of the form.
        question: the question.
    """
    if _is_form(question.schema):
        return dict(content)
    value = content.get(_ANSWER)
    if _is_plain(question.schema) or not isinstance(value, str):
        return value
    try:
        read = loads(value.encode())
    except ValueError:
        return value
    return value if faults_of(read, question.schema) and not faults_of(value, question.schema) else read


def _is_form(schema: Mapping[str, Any]) -> bool:
    properties = schema.get("properties")
    return (
        schema.get("type") == "object"
        and isinstance(properties, Mapping)
        and bool(properties)
        and all(isinstance(each, Mapping) and _is_plain(each) for each in properties.values())
    )


def _is_plain(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") in _PLAIN_TYPES


# ------------------------------------------------------------ errors


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate errors of the kernel into those of MCP.

    Raises:
        InvalidRequest: what the client sent does not match a schema; this one is not translated.
        MCPError: the kernel refused a call, or gave no usable answer.
    """
    try:
        yield
    except InvalidRequest:
        raise
    except NotFoundError as unknown:
        raise MCPError(INVALID_PARAMS, str(unknown)) from unknown
    except (KernelRefused, KernelTrouble) as refused:
        raise MCPError(INTERNAL_ERROR, str(refused)) from refused
