"""The OpenAPI document of the kernel, generated from its route table and wire types (difference 10)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import attrs

from cgworker.kernel.config import KernelConfig
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.openapi.schemas import Schemas, description_of
from cgworker.wire.schemas import Schema

TITLE = "CommonGround Kernel Service"

_HEADERS: Mapping[str, str] = {
    "Prefer": "`wait=N` waits up to N seconds for news; a claim takes `return=representation` as well",
    "Idempotency-Key": "A repeat with the same key and body changes nothing and is answered again",
}
_REFUSALS: Mapping[int, str] = {
    401: "Who calls is not known",
    403: "The caller may not do this",
    404: "There is no such thing",
    409: "It contradicts what is there, a grant is missing, or the claim is not the current one",
    413: "The body is too long",
    422: "It cannot be read",
    429: "Too many join codes were tried from here",
    503: "The database is away; ask again",
}
_REFUSAL: Schema = {
    "type": "object",
    "properties": {
        "error": {"type": "string"},
        "message": {"type": "string"},
        "code": {"type": "string", "description": "Admission only: stable, unlike the message"},
    },
    "required": ["error", "message"],
}
_FAULTS: Schema = {
    "type": "object",
    "properties": {
        "detail": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "type": {"type": "string"},
                    "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                    "msg": {"type": "string"},
                },
                "required": ["type", "loc", "msg"],
            },
        }
    },
    "required": ["detail"],
}


def describe(operations: Iterable[Operation], config: KernelConfig) -> Schema:
    """Generate the OpenAPI 3.1 document of the operations."""
    listed = list(operations)
    schemas = Schemas()
    for operation in listed:  # answers first: of a type in both, the answer gets the plain name
        _responses(operation, schemas)
    paths: dict[str, Schema] = {}
    for operation in listed:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": "v3r1"},
        "paths": paths,
        "components": {
            "schemas": {"Refusal": _REFUSAL, "Faults": _FAULTS, **schemas.named},
            "responses": {str(status): _refusal(status) for status in _REFUSALS},
            "securitySchemes": _security_of(config),
        },
    }


def _security_of(config: KernelConfig) -> Mapping[str, Schema]:
    return {
        "project": {"type": "apiKey", "in": "header", "name": config.project_header},
        "agent": {"type": "apiKey", "in": "header", "name": config.agent_header},
        "bearer": {"type": "http", "scheme": "bearer"},
    }


def _operation(operation: Operation, schemas: Schemas) -> Schema:
    described: Schema = {
        "operationId": re.sub(r"\W+", "_", f"{operation.method} {operation.path}").strip("_").lower(),
        "tags": [operation.noun],
        "summary": description_of(operation.summary),
        "security": [{name: [] for name in operation.identified_by}] if operation.identified_by else [],
        "parameters": list(_parameters(operation, schemas)),
        "responses": _responses(operation, schemas),
    }
    if operation.takes is not None:
        body = _content("application/json", schemas.of_request(operation.takes))
        described["requestBody"] = {"required": True, **body}
    return described


def _parameters(operation: Operation, schemas: Schemas) -> Iterator[Schema]:
    for name in re.findall(r"{(\w+)}", operation.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    for name in operation.headers:
        yield {"name": name, "in": "header", "description": _HEADERS[name], "schema": {"type": "string"}}
    for parameter in attrs.fields(attrs.resolve_types(operation.query)) if operation.query else ():
        yield {"name": parameter.name, "in": "query", "schema": _parameter(parameter, schemas)}


def _parameter(parameter: attrs.Attribute[object], schemas: Schemas) -> Schema:
    bounds = {name: parameter.metadata.get(name) for name in ("minimum", "maximum")}
    return {
        **schemas.of_request(str if parameter.default is None else parameter.type),
        **({} if parameter.default is None else {"default": parameter.default}),
        **{name: bound for name, bound in bounds.items() if bound is not None},
    }


def _responses(operation: Operation, schemas: Schemas) -> Schema:
    answer = _content(operation.media_type, schemas.of_answer(operation.gives))
    responses: Schema = {"200": {"description": "Done", **answer}}
    for status in _refusals_of(operation):
        responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
    if operation.gives_when_away is not None:
        away = _content("application/json", schemas.of_answer(operation.gives_when_away))
        responses["503"] = {"description": _REFUSALS[503], **away}
    return responses


def _refusals_of(operation: Operation) -> Iterator[int]:
    """Yield the statuses with which an operation may refuse; health and description refuse nothing."""
    has_body = operation.takes is not None
    if not has_body and not operation.identified_by:
        return
    if operation.identified_by:
        yield from (401, 403)
    yield from (404, 409)
    if has_body:
        yield 413
    yield 422
    if not operation.identified_by and operation.path.startswith("/admin/"):
        yield 429  # redeeming a code is rate limited
    yield 503


def _refusal(status: int) -> Schema:
    name = "Faults" if status == 422 else "Refusal"
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"description": _REFUSALS[status], **_content("application/json", schema)}


def _content(media_type: str, schema: Schema) -> Schema:
    return {"content": {media_type: {"schema": schema}}}
