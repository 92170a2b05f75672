"""Questions as the flat forms that MCP has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

pytest.importorskip("mcp_types", reason="mcp 2.3 is not installed here: `make test-mcp` runs these tests")

from cgworker import OpenQuestion
from cgworker.adapters.mcp_mapping import form_for, value_in
from cgworker.wire.refs import AgentRef, TurnRef

FLAT = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
NESTED = {"type": "array", "items": {"type": "integer"}}


def question(schema: dict[str, Any]) -> OpenQuestion:
    """A question with this schema of its answer."""
    return OpenQuestion(
        turn=TurnRef(project_id="p", turn_id="T-1"),
        agent=AgentRef(project_id="p", agent_id="desk"),
        key="k",
        question={"text": "Well?"},
        schema=schema,
        asked_at=datetime.now(UTC),
    )


@pytest.mark.parametrize(
    ("schema", "filled", "answer"),
    [
        (FLAT, {"name": "Ada", "age": 36}, {"name": "Ada", "age": 36}),
        ({"type": "boolean"}, {"answer": True}, True),
        ({"type": "string", "enum": ["a", "b"]}, {"answer": "b"}, "b"),
        ({"type": "string"}, {"answer": "3"}, "3"),
        (NESTED, {"answer": "[1, 2]"}, [1, 2]),
        (NESTED, {"answer": "one"}, "one"),
        (NESTED, {"answer": '{"a": 1}'}, {"a": 1}),
        ({}, {"answer": "plain words"}, "plain words"),
        ({"type": "boolean"}, {}, None),
    ],
)
def test_the_answer_of_a_form_is_what_the_schema_asks_for(
    schema: dict[str, Any], filled: dict[str, Any], answer: Any
) -> None:
    """An object of plain values by its fields, a plain value in one, and anything else as JSON in it."""
    form = form_for(question(schema))
    assert form.message == "Well?"
    assert form.requested_schema["type"] == "object"
    assert all(
        field["type"] in ("string", "integer", "number", "boolean")
        for field in form.requested_schema["properties"].values()
    )
    assert value_in(filled, question(schema)) == answer


def test_what_was_wrong_is_told_with_the_question() -> None:
    """The user sees why it is asked again."""
    assert form_for(question(FLAT), "age: not a number").message == "Well?\n\nage: not a number"
