"""Access control of an A2A server: authenticated callers, and bodies that the SDK reads without loss."""

from __future__ import annotations

import json
import re
from typing import Any

from a2a.auth.user import User
from a2a.server.routes.common import DefaultServerCallContextBuilder
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cgworker.adapters.a2a_parts import NumberLost, check_numbers
from cgworker.adapters.users import user_digest_of
from cgworker.wire.converter import loads

_MAX_DEPTH = 100  # protobuf's limit; some thousands of levels would break Python's own parser
_PARSER_DEPTH = 1024  # orjson's limit
_PARSE_ERROR, _INVALID_REQUEST, _INVALID_PARAMS = -32700, -32600, -32602  # JSON-RPC's


class UserById(User):
    """A user by a digest of the id; the SDK's takes the name to display, which two may have.

    Args:
        user: the user in a request's scope; None if nobody authenticates callers.
    """

    def __init__(self, user: Any) -> None:
        self._user = user

    @property
    def is_authenticated(self) -> bool:
        """Whether the caller is known."""
        return self._user is not None and bool(self._user.is_authenticated)

    @property
    def user_name(self) -> str:
        """The digest of the user's id, which is published with the turns of the user."""
        return user_digest_of(self._user)


class UsersById(DefaultServerCallContextBuilder):
    """Gives the requests of a server their users."""

    def build_user(self, request: Request) -> User:
        """Return the user of a request.

        Args:
            request: the request.
        """
        return UserById(request.scope.get("user"))


class AccessMiddleware:
    """Refuses callers and bodies that must not reach the SDK.

    The status is 401 for a caller who is not authenticated, 413 for a body that is too large and 400 for a
    body that is nested too deeply. A body with numbers that A2A's floats would change gets a JSON-RPC
    error.

    Starlette's `AuthenticationMiddleware` alone would let callers without a credential pass as one common
    user, who would see the tasks of all of them.

    Args:
        app: the application behind.
        max_bytes: the largest body of a request.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; see ASGI."""
        if scope["type"] != "http" or scope["method"] != "POST":  # the agent's card is public
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
            if len(body) > self._max_bytes:
                told = f"a body may have {self._max_bytes:,} bytes"
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
    """Return the refusal of a body that the SDK would fail on or change silently; else None."""
    try:
        request = loads(body)
    except json.JSONDecodeError as broken:
        if _is_nested_deeper(body, _PARSER_DEPTH):
            return _too_deep()
        return _error(_PARSE_ERROR, f"not JSON: {broken}", 200)
    except RecursionError:
        return _too_deep()
    if _is_deeper(request, _MAX_DEPTH):
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


_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)  # the closing quote may be missing
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _is_nested_deeper(text: bytes, levels: int) -> bool:
    """Return True if brackets are nested too deeply in a text that the parser refused."""
    depth = 0
    for bracket in _STRING.sub(b"", text).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > levels:
            return True
    return False


def _too_deep() -> Response:
    return _error(_INVALID_REQUEST, f"JSON is nested deeper than {_MAX_DEPTH} levels", 400)


def _error(code: int, message: str, status: int, request_id: Any = None) -> Response:
    """Return a JSON-RPC error; an invalid request id counts as none."""
    known_id = request_id if isinstance(request_id, str | int) and not isinstance(request_id, bool) else None
    error = {"jsonrpc": "2.0", "id": known_id, "error": {"code": code, "message": message}}
    return JSONResponse(error, status)
