"""Write the reference of the HTTP routes from the kernel's description of them, as in `/openapi.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from cgworker.kernel.app import ROUTES
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.openapi.document import describe
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.routes.admission import admission_routes

Schema = Mapping[str, Any]

# The most frequent routes come first, those about the kernel's health last.
ORDER = (
    "turns",
    "claims",
    "agents",
    "credentials",
    "reports",
    "projections",
    "schedules",
    "admission",
    "health",
    "description",
)


@cache
def _operations() -> tuple[Operation, ...]:
    admission = admission_routes(KernelConfig(), project_id="p", bearer="b", invitations=None)
    found = [route for route in [*ROUTES, *admission] if isinstance(route, Operation)]
    return tuple(sorted(found, key=lambda operation: ORDER.index(operation.noun)))


@cache
def _described() -> Schema:
    return describe(_operations(), KernelConfig())


# ---------------------------------------------------------------- routes


def reference() -> str:
    """Return a section for each noun, with its routes."""
    return "\n\n".join(_sections())


def _sections() -> Iterator[str]:
    noun = ""
    for operation in _operations():
        if operation.noun != noun:
            noun = operation.noun
            yield f"## {noun.capitalize()}"
        yield _route(operation, _described()["paths"][operation.path][operation.method.lower()])


def _route(operation: Operation, described: Schema) -> str:
    query = [parameter for parameter in described["parameters"] if parameter["in"] == "query"]
    parts = [
        f"### `{operation.method} {operation.path}`",
        operation.summary,
        " ".join(_facts(operation, described)),
        _query(query),
    ]
    return "\n\n".join(part for part in parts if part)


def _facts(operation: Operation, described: Schema) -> Iterator[str]:
    if "requestBody" in described:
        yield f"Takes {_kind(_json_of(described['requestBody']))}."
    if "application/json" in described["responses"]["200"]["content"]:
        yield f"Gives {_kind(_json_of(described['responses']['200']))}."
    headers = [p["name"] for p in described["parameters"] if p["in"] == "header"]
    if headers:
        yield f"Heeds {' and '.join(f'`{name}`' for name in headers)}."
    if operation.identified_by == ("bearer",):
        yield "Asks for the admin API's bearer."
    elif operation.path.endswith("-many"):
        yield "Each item brings its own agent's credential."
    elif not operation.identified_by:
        yield "Asks nobody who they are."


def _json_of(content: Schema) -> Schema:
    schema: Schema = content["content"]["application/json"]["schema"]
    return schema


def _query(parameters: list[Schema]) -> str:
    rows = [
        f"| `{p['name']}` | {_kind(p['schema'])} | {_default(p['schema'])} | {_bounds(p['schema'])} |"
        for p in parameters
    ]
    return "\n".join(["| Query | | Default | |", "| --- | --- | --- | --- |", *rows]) if rows else ""


def _bounds(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    said = [f"at least {least}" if least is not None else "", f"at most {most}" if most is not None else ""]
    return ", ".join(filter(None, said))


# ---------------------------------------------------------------- types


def types() -> str:
    """Return a section for each type that is sent or received."""
    named = {_plain(name): schema for name, schema in _described()["components"]["schemas"].items()}
    return "\n\n".join(_type(name, named[name]) for name in sorted(named))


def _type(name: str, schema: Schema) -> str:
    rows = [
        f"| `{field}` | {_kind(kind)} | {_default(kind)} |"
        for field, kind in schema.get("properties", {}).items()
    ]
    table = "\n".join(["| Field | Type | Default |", "| --- | --- | --- |", *rows])
    description = " ".join(schema.get("description", "").split())
    return "\n\n".join(part for part in (f"### {name}", description, table if rows else "") if part)


def _kind(schema: Schema) -> str:
    """Describe a schema in words, with links to the types that it names."""
    if "$ref" in schema:
        name = _plain(schema["$ref"].rpartition("/")[2])
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("format") == "date-time":
        return "instant"
    kind = schema.get("type", "any JSON")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _default(schema: Schema) -> str:
    return f"`{json.dumps(schema['default'])}`" if "default" in schema else ""


def _plain(name: str) -> str:
    """Give the types of requests and answers one name: they differ only in how strictly they are read."""
    return re.sub(r"Input$", "", name)
