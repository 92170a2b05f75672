"""Make a kernel behave without cgworker's extensions, like the reference's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cgworker.wire.converter import loads
from cgworker.wire.order import ORDER_FIELDS

_PREFERENCES = (b"prefer", b"idempotency-key")
_ADDED_ROUTES = re.compile(r"-many\Z|/management/schedules(/|\Z)|/turns/[^/]+:(tell|redo)\Z")
_ADDED_PARAMETERS = ("before_turn_seq", "after_agent_id")
_ADDED_FIELDS: Mapping[str, tuple[str, ...]] = {
    "suspend": ("resume_after_seconds",),
    "dispatch": ORDER_FIELDS,
}


async def answer_plainly(app: ASGIApp, verb: str | None, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a request without the extensions: without preferences, and without our routes and fields.

    Args:
        app: the kernel's application.
        verb: the verb of the request, if it has one.
        scope: the ASGI scope.
        receive: the ASGI receive function.
        send: the ASGI send function.
    """
    scope["query_string"] = urlencode(
        [pair for pair in parse_qsl(scope["query_string"].decode(), True) if pair[0] not in _ADDED_PARAMETERS]
    ).encode()
    scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in _PREFERENCES]
    if _ADDED_ROUTES.search(scope["path"]):
        await JSONResponse({"detail": "Not Found"}, status_code=404)(scope, receive, send)
        return
    if added := _ADDED_FIELDS.get(verb or ""):
        body = await _body_of(receive)
        if faults := _faults_of(body, added):
            await JSONResponse({"detail": faults}, status_code=422)(scope, receive, send)
            return
        receive = _again(body, receive)
    await app(scope, receive, send)


def _faults_of(body: bytes, added: tuple[str, ...]) -> list[dict[str, object]]:
    sent = loads(body)
    unknown = [name for name in added if isinstance(sent, dict) and name in sent]
    return [
        {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}
        for name in unknown
    ]


async def _body_of(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a receive function that repeats the body, which was read already."""
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return unread.pop() if unread else await receive()

    return receive_again
