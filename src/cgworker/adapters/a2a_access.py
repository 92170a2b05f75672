"""What an A2A server lets in: callers who are who they say, and bodies that stay what they are."""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cgworker.adapters.a2a_parts import NumberLost, check_numbers
from cgworker.wire.converter import loads

_MOST_LEVELS = 100  # protobuf follows no more, and at some thousands Python's own parser breaks
_PARSER_LEVELS = 1024  # orjson follows no more
_PARSE_ERROR, _INVALID_REQUEST, _INVALID_PARAMS = -32700, -32600, -32602  # JSON-RPC's


class Door:
    """Refuses callers and bodies that must not reach the SDK.

    A caller whom the authentication does not know is a 401, a body that is too large a 413, one that is
    nested too deeply a 400, and one with numbers that A2A's floats would change a JSON-RPC error.

    Starlette's `AuthenticationMiddleware` lets a caller without a credential pass as nobody in particular:
    all of them together would be one user, who sees the tasks of all.
    """

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; see ASGI."""
        if scope["type"] != "http" or scope["method"] != "POST":  # the agent's card is for everybody
            await self._app(scope, receive, send)
            return
        user = scope.get("user")
        if user is not None and not user.is_authenticated:
            refusal = PlainTextResponse("a credential is needed", 401, {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)
            return
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > self._most_bytes:
                told = f"a body may have {self._most_bytes:,} bytes"
                await PlainTextResponse(told, 413, {"Connection": "close"})(scope, receive, send)
                return
            if not message.get("more_body", False):
                break
        if (fault := _fault_in(bytes(body))) is not None:
            await fault(scope, receive, send)
            return
        waiting: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def again() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, again, send)


def _fault_in(body: bytes) -> Response | None:
    """The answer to a body that the SDK would break on, or change in silence; None to any other."""
    try:
        request = loads(body)
    except json.JSONDecodeError as broken:
        if _is_nested_deeper(body, _PARSER_LEVELS):
            return _too_deep()
        return _error(_PARSE_ERROR, f"not JSON: {broken}", 200)
    except RecursionError:
        return _too_deep()
    if _is_deeper(request, _MOST_LEVELS):
        return _too_deep()
    if not isinstance(request, dict):
        return None
    try:
        check_numbers(request.get("params"))
    except NumberLost as lost:
        return _error(_INVALID_PARAMS, str(lost), 200, request.get("id"))
    return None


def _is_deeper(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return False
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in value)


_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)  # also one without an end
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _is_nested_deeper(text: bytes, levels: int) -> bool:
    """Whether brackets are nested deeper than so many levels, in text that the parser refused."""
    depth = 0
    for bracket in _STRING.sub(b"", text).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > levels:
            return True
    return False


def _too_deep() -> Response:
    return _error(_INVALID_REQUEST, f"JSON is nested deeper than {_MOST_LEVELS} levels", 400)


def _error(code: int, message: str, status: int, request_id: Any = None) -> Response:
    """A JSON-RPC error; where the request's id is no id, as without one."""
    told = request_id if isinstance(request_id, str | int) and not isinstance(request_id, bool) else None
    error = {"jsonrpc": "2.0", "id": told, "error": {"code": code, "message": message}}
    return JSONResponse(error, status)
