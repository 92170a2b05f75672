"""Check every part of a JSON Schema, and everything it refers to, before the schema is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema_specifications import REGISTRY
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from cgworker.durable.schema_validation import Work, errors_of

_REFERENCES = ("$ref", "$dynamicRef")
_IN_PLACE = ("not", "if", "then", "else")
_ALL_IN_PLACE = ("allOf", "anyOf", "oneOf")


class SchemaRefused(ValueError):
    """A schema cannot be used; the text gives the reason."""


def check_parts(schema: Mapping[str, Any], work: Work) -> None:
    """Check every part of the schema, including parts that only a reference leads to.

    Args:
        schema: the schema.
        work: the budget for the check; see `Work`.

    Raises:
        SchemaRefused: it is not a valid JSON Schema, or has a reference that leads outside of it or round
            in circles.
        PatternRefused: a regular expression in it cannot be used.
        Exception: anything else that referencing and jsonschema raise, such as RecursionError.
    """
    in_place: dict[int, list[int]] = {}
    waiting = [(schema, REGISTRY.resolver_with_root(DRAFT202012.create_resource(schema)))]
    while waiting:
        part, resolver = waiting.pop()
        if id(part) not in in_place:
            _check_form(part, work)
            waiting.extend(_survey(part, resolver, work, in_place))
    try:
        TopologicalSorter(in_place).prepare()
    except CycleError as loop:
        raise SchemaRefused("it refers to itself without end") from loop


def _check_form(part: Any, work: Work) -> None:
    for error in errors_of(part, Draft202012Validator.META_SCHEMA, work):
        raise SchemaRefused(f"it is no JSON Schema: {error.message}")


def _survey(
    part: Any, resolver: Any, work: Work, in_place: dict[int, list[int]]
) -> Iterator[tuple[Any, Any]]:
    """Yield the schemas that the part refers to; note in `in_place` which ones apply to the same value."""
    inside = [(part, resolver)]
    while inside:
        schema, resolver = inside.pop()
        if id(schema) in in_place or not isinstance(schema, Mapping):
            continue
        for pattern in (*filter(None, [schema.get("pattern")]), *schema.get("patternProperties", ())):
            work.compiled(pattern)
        found = [_referred(resolver, schema[keyword]) for keyword in _REFERENCES if keyword in schema]
        in_place[id(schema)] = [*map(id, _applied_in_place(schema)), *(id(each.contents) for each in found)]
        yield from ((each.contents, each.resolver) for each in found)
        for inner in DRAFT202012.subresources_of(schema):
            inside.append((inner, resolver.in_subresource(DRAFT202012.create_resource(inner))))


def _referred(resolver: Any, reference: str) -> Any:
    try:
        return resolver.lookup(reference)
    except (Unresolvable, ValueError) as nowhere:
        raise SchemaRefused(f"it refers to what is not in it: {reference!r}") from nowhere


def _applied_in_place(schema: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the subschemas that apply to the same value as this schema."""
    yield from (schema[keyword] for keyword in _IN_PLACE if keyword in schema)
    for keyword in _ALL_IN_PLACE:
        yield from schema.get(keyword, ())
    yield from schema.get("dependentSchemas", {}).values()
