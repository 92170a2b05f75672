"""What an A2A server lets in: callers who are who they say, and bodies of a bounded size."""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Door:
    """Refuses callers whom the authentication does not know (401), and bodies that are too large (413).

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
        waiting: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def again() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, again, send)
