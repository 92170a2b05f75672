"""Reading requests, replying, and refusing: how HTTP looks to the routes (wire 2)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from attrs import Attribute, AttrsInstance, field, fields, resolve_types
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cgworker.errors import (
    CommonGroundError,
    ConflictError,
    InvalidRequest,
    KernelOverloaded,
    KernelRefused,
)
from cgworker.kernel.http.bodies import read_body
from cgworker.kernel.http.parsing import fault, parse
from cgworker.wire.converter import dumps, unstructure
from cgworker.wire.turns import ItemAnswer
from cgworker.wire.values import Fault, read_lax_bool, read_lax_int

logger: logging.Logger = logging.getLogger("cgworker.kernel")

T = TypeVar("T")
Q = TypeVar("Q", bound=AttrsInstance)

_JSON_TYPE = re.compile(r"application/([\w.+-]+\+)?json\s*(;|\Z)", re.IGNORECASE)
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


# ---------------------------------------------------------------- reading


async def read(request: Request, cls: type[T]) -> T:
    """The body as a wire type.

    Raises:
        InvalidRequest: 422, with its faults; the input itself is never echoed (difference 1).
        CommonGroundError, HTTPException: as `read_body`, which reads a large one for known callers only.
    """
    chunks = await read_body(request)
    size = body_bytes(request)
    if not size:
        raise InvalidRequest([fault("missing", ["body"], "Field required")])
    if not _JSON_TYPE.match(request.headers.get("content-type", "")):
        raise InvalidRequest([_NOT_AN_OBJECT])
    return await parse(cls, chunks, size, max_depth=request.app.state.kernel.config.max_depth)


def body_bytes(request: Request) -> int:
    """How large the body was, once it has been read."""
    return int(request.state.body_bytes)


_NOT_AN_OBJECT = fault(
    "model_attributes_type",
    ["body"],
    "Input should be a valid dictionary or object to extract fields from",
)


def int_field(default: int, *, minimum: int | None = None, maximum: int | None = None) -> Any:
    """A field of a query class: an integer within bounds."""
    return field(default=default, metadata={"minimum": minimum, "maximum": maximum})


def read_query(request: Request, cls: type[Q]) -> Q:
    """The query parameters as a frozen class of fields with defaults; what else is given is passed over.

    Raises:
        InvalidRequest: 422, with every fault.
    """
    values: dict[str, Any] = {}
    faults: list[dict[str, Any]] = []
    for parameter in fields(resolve_types(cls)):
        given = request.query_params.get(parameter.name)
        try:
            if given is not None:
                values[parameter.name] = _read_parameter(parameter, given)
        except Fault as broken:
            faults.append(fault(broken.type, ["query", parameter.name], broken.msg))
    if faults:
        raise InvalidRequest(faults)
    return cls(**values)


def _read_parameter(parameter: Attribute[Any], given: str) -> Any:
    value = _QUERY_READERS[parameter.type](given)
    minimum, maximum = parameter.metadata.get("minimum"), parameter.metadata.get("maximum")
    if minimum is not None and value < minimum:
        raise Fault("greater_than_equal", f"Input should be greater than or equal to {minimum}")
    if maximum is not None and value > maximum:
        raise Fault("less_than_equal", f"Input should be less than or equal to {maximum}")
    return value


def _read_text(value: str) -> str:
    if _UNSTORABLE.search(value):
        raise Fault("value_error", "Value error, must not contain a NUL character or a surrogate")
    return value


_QUERY_READERS: Mapping[Any, Callable[[str], Any]] = {
    str | None: _read_text,
    bool: read_lax_bool,
    int: read_lax_int,
}


def path_id(request: Request, name: str) -> str:
    """An id from the path; one that no column could hold is a 422 and not the database's problem."""
    value: str = request.path_params[name]
    if _UNSTORABLE.search(value):
        raise InvalidRequest([fault("value_error", ["path", name], "Value error, not a storable id")])
    return value


def require_same(given: str, expected: str, message: str) -> None:
    """A body must speak of what its path names, or it is a 409 (wire 3)."""
    if given != expected:
        raise ConflictError(message)


_MAX_KEY_LENGTH = 255


def idempotency_key(request: Request) -> str | None:
    """The request's Idempotency-Key, if it has one (difference 4)."""
    key = request.headers.get("idempotency-key")
    require_key(key, ["header", "idempotency-key"])
    return key


def require_key(key: str | None, loc: list[str | int]) -> None:
    """Raise InvalidRequest if this is given and cannot be an Idempotency-Key."""
    if key is not None and (not key or len(key) > _MAX_KEY_LENGTH or _UNSTORABLE.search(key)):
        msg = f"Value error, must have 1 to {_MAX_KEY_LENGTH} characters"
        raise InvalidRequest([fault("value_error", loc, msg)])


# ---------------------------------------------------------------- replying


def reply(value: Any, *, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    """A wire type or JSON value as the answer."""
    return Response(dumps(value), status, headers, "application/json")


def error_response(error: CommonGroundError) -> Response:
    """An error as the answer (wire 2.1)."""
    if isinstance(error, InvalidRequest):
        return reply({"detail": list(error.faults)}, status=422)
    headers = {}
    if isinstance(error, KernelOverloaded) and error.retry_after_seconds is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_seconds)))
    return reply(error_body(error), status=error.status, headers=headers)


def error_body(error: CommonGroundError) -> dict[str, Any]:
    """The body of a refusal: the class's name and the message, and nothing else."""
    name = type(error).__name__ if isinstance(error, KernelRefused) else "ServiceUnavailable"
    return {"error": name, "message": error.message}


def item_answer(answer: Any) -> ItemAnswer:
    """What the single route would have answered to one of many items (difference 9)."""
    if isinstance(answer, InvalidRequest):
        return ItemAnswer(status=422, body={"detail": list(answer.faults)})
    if isinstance(answer, CommonGroundError):
        return ItemAnswer(status=answer.status, body=error_body(answer))
    return ItemAnswer(status=200, body=unstructure(answer))


def next_page(request: Request, name: str, after: int) -> dict[str, str]:
    """The header that leads to the next page of one that was cut (difference 11)."""
    query = urlencode({**request.query_params, name: after})
    return {"link": f'<{quote(request.scope["path"])}?{query}>; rel="next"'}


async def on_error(_: Request, error: Exception) -> Response:
    """The one error handler for errors of ours."""
    assert isinstance(error, CommonGroundError)
    return error_response(error)


async def on_http_error(_: Request, error: Exception) -> Response:
    """Unknown routes and wrong methods."""
    assert isinstance(error, HTTPException)
    return reply({"detail": error.detail}, status=error.status_code, headers=error.headers)


async def on_internal_error(request: Request, error: Exception) -> Response:
    """A fault of ours: nothing should come here; the server logs it with its traceback."""
    logger.error("%s %s: %s", request.method, request.url.path, type(error).__name__)
    return reply(
        {"error": "InternalError", "message": "the kernel has a fault; its log says more"}, status=500
    )
