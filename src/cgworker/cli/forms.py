"""Ask a person on the terminal for the answer to a question, by its JSON Schema."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from cgworker.durable.answers import OpenQuestion
from cgworker.wire.converter import dumps, loads

_YES = {"y": True, "yes": True, "true": True, "n": False, "no": False, "false": False}
_SAMPLES: Mapping[str, Any] = {
    "boolean": True,
    "integer": 1,
    "number": 1.5,
    "string": "...",
    "array": [],
    "null": None,
}


@frozen
class Declined:
    """The person declines to answer.

    Attributes:
        reason: why, as typed; None if nothing was.
    """

    reason: str | None


def ask_person(question: OpenQuestion) -> Any:
    """Print a question with the form of its answer, and read the answer from the terminal.

    Args:
        question: the question.

    Returns:
        The value that was typed, or `Declined`; it need not match the schema.
    """
    from cgworker.cli.rendering import screen, words

    text = question.question if isinstance(question.question, str) else dumps(question.question).decode()
    screen().print(words(("? ", "bold yellow"), (text, "bold"), f"  ({form_of(question.schema)}; /decline)"))
    while True:
        typed = input("> ").strip()
        if typed == "/decline" or typed.startswith("/decline "):
            return Declined(typed.removeprefix("/decline").strip() or None)
        if typed:
            return value_of(typed, question.schema)


def value_of(typed: str, schema: Mapping[str, Any]) -> Any:
    """Return what a person means: a string as it is typed, yes or no, and else JSON.

    Args:
        typed: what was typed.
        schema: the answer's JSON Schema.
    """
    kind = _resolved(schema).get("type")
    if kind == "boolean" and typed.lower() in _YES:
        return _YES[typed.lower()]
    if kind == "string":
        return typed
    try:
        return loads(typed)
    except (ValueError, RecursionError):
        return typed  # one of an enum, or a fault that the schema finds


def form_of(schema: Mapping[str, Any]) -> str:
    """Say in a few words what an answer looks like.

    Args:
        schema: the answer's JSON Schema.
    """
    schema = _resolved(schema)
    if "enum" in schema:
        return " or ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    match schema.get("type"):
        case "boolean":
            return "yes or no"
        case "string":
            return "a text"
        case "integer":
            return "a whole number" + _range_of(schema)
        case "number":
            return "a number" + _range_of(schema)
        case "array":
            return f"a list of {form_of(schema.get('items') or {})}"
        case "object":
            return f"an object with {', '.join(schema.get('properties') or {}) or 'any fields'}"
    return "any JSON"


def _range_of(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f" from {least} to {most}"
    return f" from {least}" if least is not None else f" up to {most}" if most is not None else ""


def command_that_answers(question: OpenQuestion) -> str:
    """Return the command line that answers a question, with a sample of its value.

    Args:
        question: the question.
    """
    sample = shlex.quote(dumps(sample_of(question.schema)).decode())
    return f"cg turn answer {question.turn.turn_id} --key {shlex.quote(question.key)} --json {sample}"


def sample_of(schema: Mapping[str, Any]) -> Any:
    """Return a value that has the form of a schema.

    Args:
        schema: the JSON Schema.
    """
    schema = _resolved(schema)
    if schema.get("enum"):
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    if schema.get("type") == "object":
        fields = schema.get("properties") or {}
        names = schema.get("required") or fields
        return {name: sample_of({"$defs": schema.get("$defs"), **(fields.get(name) or {})}) for name in names}
    if schema.get("type") in ("integer", "number") and "minimum" in schema:
        return schema["minimum"]
    return _SAMPLES.get(str(schema.get("type")), "...")


def _resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema that a reference to the same document's `$defs` names."""
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    found = (schema.get("$defs") or {}).get(name) if name else None
    return {**found, "$defs": schema["$defs"]} if isinstance(found, Mapping) else schema
