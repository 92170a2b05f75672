"""Reading requests, replying, and refusing: how HTTP looks to the routes (protocol.md 2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from cgworker.errors import (
    CommonGroundError,
    ConflictError,
    InvalidRequest,
    KernelOverloaded,
    KernelRefused,
    PayloadTooLarge,
)
from cgworker.wire.converter import dumps, loads, structure_request, unstructure
from cgworker.wire.turns import ItemAnswer
from cgworker.wire.values import Fault, read_lax_bool, read_lax_int

T = TypeVar("T")

_JSON_TYPE = re.compile(r"application/([\w.+-]+\+)?json\s*(;|\Z)", re.IGNORECASE)
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


# ---------------------------------------------------------------- reading


async def read(request: Request, cls: type[T]) -> T:
    """The body as a wire type.

    Raises:
        InvalidRequest: 422, with every fault; the input itself is never echoed (decision 1).
        PayloadTooLarge: 413.
    """
    raw = await read_body(request)
    if not raw:
        raise InvalidRequest([_fault("missing", ["body"], "Field required")])
    if not _JSON_TYPE.match(request.headers.get("content-type", "")):
        raise InvalidRequest([_NOT_AN_OBJECT])
    return structure_request(cls, _parse(raw, request.app.state.kernel.config.max_depth))


async def read_body(request: Request) -> bytes:
    """The body as it came, up to the limit; read once and kept by the request."""
    limit = request.app.state.kernel.config.max_body_bytes
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise PayloadTooLarge(f"the body is over {limit} bytes")
            chunks.append(chunk)
    except ClientDisconnect:
        raise KernelOverloaded("the client hung up before its request was whole", status=503) from None
    return b"".join(chunks)


def _parse(raw: bytes, most_depth: int) -> Any:
    try:
        value = loads(raw)
    except RecursionError:
        raise InvalidRequest([_too_deep(most_depth)]) from None
    except ValueError as broken:
        at = getattr(broken, "pos", 0)
        raise InvalidRequest([_fault("json_invalid", ["body", at], f"JSON decode error: {broken}")]) from None
    if raw.count(b"[") + raw.count(b"{") > most_depth and _depth(value) > most_depth:
        raise InvalidRequest([_too_deep(most_depth)])
    return value


def _depth(value: Any) -> int:
    """How deep the value is nested, level by level, so that no depth overflows our own stack."""
    depth, level = 0, [value]
    while level:
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            break
        depth += 1
        level = [
            inner for item in containers for inner in (item.values() if isinstance(item, dict) else item)
        ]
    return depth


def _too_deep(most: int) -> dict[str, Any]:
    return _fault("recursion_loop", ["body"], f"JSON is nested deeper than {most} levels")


def _fault(type: str, loc: list[str | int], msg: str) -> dict[str, Any]:
    return {"type": type, "loc": loc, "msg": msg}


_NOT_AN_OBJECT = _fault(
    "model_attributes_type",
    ["body"],
    "Input should be a valid dictionary or object to extract fields from",
)


class Query:
    """A request's query parameters, read as the reference reads them; all faults are told together."""

    def __init__(self, request: Request) -> None:
        self._given = request.query_params
        self._faults: list[dict[str, Any]] = []

    def text(self, name: str) -> str | None:
        """A string, or None when it is not given."""
        value = self._given.get(name)
        if value is not None and _UNSTORABLE.search(value):
            self._refuse(name, Fault("value_error", "Value error, a NUL character or surrogate"))
        return value

    def flag(self, name: str) -> bool:
        """A bool, False when it is not given."""
        value = self._given.get(name)
        try:
            return False if value is None else read_lax_bool(value)
        except Fault as fault:
            self._refuse(name, fault)
            return False

    def integer(self, name: str, default: int, *, least: int | None = None, most: int | None = None) -> int:
        """An integer within bounds."""
        value = self._given.get(name)
        try:
            number = default if value is None else read_lax_int(value)
            if least is not None and number < least:
                msg = f"Input should be greater than or equal to {least}"
                raise Fault("greater_than_equal", msg)
            if most is not None and number > most:
                raise Fault("less_than_equal", f"Input should be less than or equal to {most}")
        except Fault as fault:
            self._refuse(name, fault)
            return default
        return number

    def check(self) -> None:
        """Raise InvalidRequest if any parameter was wrong; call it when all have been read."""
        if self._faults:
            raise InvalidRequest(self._faults)

    def _refuse(self, name: str, fault: Fault) -> None:
        self._faults.append(_fault(fault.type, ["query", name], fault.msg))


def path_id(request: Request, name: str) -> str:
    """An id from the path; one that no column could hold is a 422 and not the database's problem."""
    value: str = request.path_params[name]
    if _UNSTORABLE.search(value):
        raise InvalidRequest([_fault("value_error", ["path", name], "Value error, not a storable id")])
    return value


def require_same(given: str, expected: str, message: str) -> None:
    """A body must speak of what its path names, or it is a 409 (protocol.md 3)."""
    if given != expected:
        raise ConflictError(message)


_LONGEST_KEY = 255


def key_of(request: Request) -> str | None:
    """The request's Idempotency-Key, if it has one (decision 4)."""
    key = request.headers.get("idempotency-key")
    if key is not None and (not key or len(key) > _LONGEST_KEY or _UNSTORABLE.search(key)):
        msg = f"Value error, must have 1 to {_LONGEST_KEY} characters"
        raise InvalidRequest([_fault("value_error", ["header", "idempotency-key"], msg)])
    return key


# ---------------------------------------------------------------- replying


def reply(value: Any, *, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    """A wire type or JSON value as the answer."""
    return Response(dumps(value), status, headers, "application/json")


def refuse(error: CommonGroundError) -> Response:
    """An error as the answer (protocol.md 2.1)."""
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
    """What the single route would have answered to one of many items (decision 9)."""
    if isinstance(answer, InvalidRequest):
        return ItemAnswer(status=422, body={"detail": list(answer.faults)})
    if isinstance(answer, CommonGroundError):
        return ItemAnswer(status=answer.status, body=error_body(answer))
    return ItemAnswer(status=200, body=unstructure(answer))


def next_page(request: Request, name: str, after: int) -> dict[str, str]:
    """The header that leads to the next page of one that was cut (decision 11)."""
    url = request.url.include_query_params(**{name: after})
    return {"link": f'<{url.path}?{url.query}>; rel="next"'}


async def on_error(_: Request, error: Exception) -> Response:
    """The one error handler for errors of ours."""
    assert isinstance(error, CommonGroundError)
    return refuse(error)


async def on_http_error(_: Request, error: Exception) -> Response:
    """Unknown routes and wrong methods."""
    assert isinstance(error, HTTPException)
    return reply({"detail": error.detail}, status=error.status_code, headers=error.headers)
