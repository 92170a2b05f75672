"""Guard the console: its hosts, its sessions, the origin of each write, and what its pages may load."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cgworker.console.session import Sessions, session_id_of

_HEADERS = {
    # Neither inline scripts nor inline styles, and nothing from another site.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with `no-referrer` a browser sends forms with `Origin: null`
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_OPEN_PATHS = ("/login", "/static/")

NO_SESSION = (
    "Open the link that `cg console` printed: it opens the console in one browser, once. "
    "Start `cg console` again for another link.\n"
)


class RequestGuard:
    """ASGI middleware that refuses what did not come from the console's own pages.

    Args:
        app: the console.
        sessions: its sessions.
        hosts: the values of `Host` to answer to; None leaves that to the application around the console.
    """

    def __init__(self, app: ASGIApp, *, sessions: Sessions, hosts: Collection[str] | None) -> None:
        self._app = app
        self._sessions = sessions
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal_of(Request(scope))
        await (refusal or self._app)(scope, receive, _adding_headers(send, scope))

    def _refusal_of(self, request: Request) -> Response | None:
        if self._hosts is not None and request.headers.get("host", "") not in self._hosts:
            return PlainTextResponse("This console does not answer to that host.\n", 421)
        if request.method not in ("GET", "HEAD") and not _is_same_origin(request.headers):
            return PlainTextResponse("Only the console's own pages may ask for this.\n", 403)
        if not self._sessions.needs_link or _is_open(request.scope):
            return None
        return None if self._sessions.is_open(session_id_of(request)) else PlainTextResponse(NO_SESSION, 401)


def _is_open(scope: Scope) -> bool:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path.startswith(_OPEN_PATHS)


def _is_same_origin(headers: Headers) -> bool:
    """Return whether a write comes from a page of the host it was sent to. Every browser sends `Origin`."""
    try:
        origin = urlsplit(headers.get("origin", ""))
    except ValueError:  # such as `http://[`
        return False
    return bool(origin.netloc) and origin.netloc == headers.get("host")


def _adding_headers(send: Send, scope: Scope) -> Send:
    is_static = "/static/" in scope["path"]

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "max-age=3600" if is_static else "no-store")
        await send(message)

    return send_with_headers
