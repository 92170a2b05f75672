"""Read requests and write responses and refusals for the routes (wire 2)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from attrs import Attribute, AttrsInstance, field, fields, resolve_types
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cgworker.errors import (
    CommonGroundError,
    ConflictError,
    InvalidRequest,
    KernelOverloaded,
    KernelRefused,
)
from cgworker.kernel.http.parsing import fault, parse
from cgworker.kernel.http.request import Request, read_body
from cgworker.wire.converter import dumps
from cgworker.wire.values import Fault, read_lax_bool, read_lax_int

logger: logging.Logger = logging.getLogger("cgworker.kernel")

T = TypeVar("T")
Q = TypeVar("Q", bound=AttrsInstance)

_JSON_TYPE = re.compile(r"application/([\w.+-]+\+)?json\s*(;|\Z)", re.IGNORECASE)
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


# ---------------------------------------------------------------- reading


async def read(request: Request, cls: type[T]) -> T:
    """Read the body as a wire type.

    Raises:
        InvalidRequest: 422, with all faults of the body; they never repeat the input (difference 1).
        CommonGroundError, HTTPException: raised by `read_body`, which refuses large unauthenticated bodies.
    """
    chunks = await read_body(request)
    size = sum(map(len, chunks))
    if not size:
        raise InvalidRequest([fault("missing", ["body"], "Field required")])
    if not _JSON_TYPE.match(request.header("content-type") or ""):
        raise InvalidRequest([_NOT_AN_OBJECT])
    return await parse(cls, chunks, size, max_depth=request.kernel.config.max_depth)


_NOT_AN_OBJECT = fault(
    "model_attributes_type",
    ["body"],
    "Input should be a valid dictionary or object to extract fields from",
)


def int_field(default: int, *, minimum: int | None = None, maximum: int | None = None) -> Any:
    """Define a field of a query class: an integer within bounds, which are included."""
    return field(default=default, metadata={"minimum": minimum, "maximum": maximum})


def read_query(request: Request, cls: type[Q]) -> Q:
    """Read the query parameters as a frozen class of fields with defaults; ignore unknown parameters.

    Raises:
        InvalidRequest: 422, with all faults of the query.
    """
    values: dict[str, Any] = {}
    faults: list[dict[str, Any]] = []
    for parameter in fields(resolve_types(cls)):
        text = request.query_params.get(parameter.name)
        try:
            if text is not None:
                values[parameter.name] = _read_parameter(parameter, text)
        except Fault as broken:
            faults.append(fault(broken.type, ["query", parameter.name], broken.msg))
    if faults:
        raise InvalidRequest(faults)
    return cls(**values)


def _read_parameter(parameter: Attribute[Any], text: str) -> Any:
    value = _QUERY_READERS[parameter.type](text)
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
    """Read an id from the path.

    Raises:
        InvalidRequest: 422, no column of the database can hold the id.
    """
    value = request.path_values[name]
    if _UNSTORABLE.search(value):
        raise InvalidRequest([fault("value_error", ["path", name], "Value error, not a storable id")])
    return value


def require_same(actual: str, expected: str, message: str) -> None:
    """Raise ConflictError (409) unless the body names what the path names (wire 3)."""
    if actual != expected:
        raise ConflictError(message)


_MAX_KEY_LENGTH = 255


def idempotency_key(request: Request) -> str | None:
    """Return the request's Idempotency-Key; None if it has none (difference 4).

    Raises:
        InvalidRequest: 422, the key is empty, too long, or not storable.
    """
    key = request.header("idempotency-key")
    require_key(key, ["header", "idempotency-key"])
    return key


def require_key(key: str | None, loc: list[str | int]) -> None:
    """Raise InvalidRequest if the key is given and is no valid Idempotency-Key; `loc` is its place."""
    if key is not None and (not key or len(key) > _MAX_KEY_LENGTH or _UNSTORABLE.search(key)):
        msg = f"Value error, must have 1 to {_MAX_KEY_LENGTH} characters"
        raise InvalidRequest([fault("value_error", loc, msg)])


# ---------------------------------------------------------------- replying


class _JsonResponse(Response):
    """A response with JSON; Starlette's own way to make one asks what it may have besides."""

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str] | None) -> None:
        self.status_code: int = status
        self.body: bytes = body
        self.background: None = None
        self.raw_headers: list[tuple[bytes, bytes]] = []
        if headers:
            self.raw_headers += [
                (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
            ]
        self.raw_headers += (b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")


def reply(value: Any, *, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    """Return a response with a wire type or JSON value."""
    return _JsonResponse(dumps(value), status, headers)


def error_response(error: CommonGroundError) -> Response:
    """Return the response for an error (wire 2.1)."""
    if isinstance(error, InvalidRequest):
        return reply({"detail": list(error.faults)}, status=422)
    headers = {}
    if isinstance(error, KernelOverloaded) and error.retry_after_seconds is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_seconds)))
    return reply(error_body(error), status=error.status, headers=headers)


def error_body(error: CommonGroundError) -> dict[str, Any]:
    """Return the body of a refusal: the name of the error's class, and the message."""
    name = type(error).__name__ if isinstance(error, KernelRefused) else "ServiceUnavailable"
    return {"error": name, "message": error.message}


def item_answer(answer: Any) -> dict[str, Any]:
    """Return the answer for one of many items as its single route would: an ItemAnswer (difference 9)."""
    if isinstance(answer, InvalidRequest):
        return {"status": 422, "body": {"detail": list(answer.faults)}}
    if isinstance(answer, CommonGroundError):
        return {"status": answer.status, "body": error_body(answer)}
    return {"status": 200, "body": answer}


def next_page(request: Request, name: str, after: int) -> dict[str, str]:
    """Return the `Link` header to the next page, for a page that was cut (difference 11).

    Args:
        request: the request for the page.
        name: the query parameter that continues the list.
        after: its value for the next page.
    """
    query = urlencode({**request.query_params, name: after})
    return {"link": f'<{quote(request.scope["path"])}?{query}>; rel="next"'}


def http_error_response(error: HTTPException) -> Response:
    """Return the response for an unknown route, a wrong method, or another HTTP error."""
    return reply({"detail": error.detail}, status=error.status_code, headers=error.headers)


def internal_error_response(request: Request, error: Exception) -> Response:
    """Return the response for an unexpected exception, a bug of the kernel; the server logs its traceback."""
    logger.error("%s %s: %s", request.method, request.scope["path"], type(error).__name__)
    return reply(
        {"error": "InternalError", "message": "the kernel has a fault; its log says more"}, status=500
    )
