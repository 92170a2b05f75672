"""Check the `Host` of requests, and redirect trailing slashes without using it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from cgworker.kernel.addresses import host_name, is_loopback
from cgworker.kernel.http.messages import reply

_MAX_NAME_LENGTH = 253  # of a host in DNS
_SAFE_IN_QUERY = "%/?:@!$&'()*+,;=-._~"


class AllowedHosts:
    """ASGI middleware that refuses requests for other hosts than the given and loopback names (421).

    It prevents DNS rebinding: a web page whose own host name resolves to 127.0.0.1 could otherwise talk to a
    kernel on the reader's machine. A request without a `Host` is served: no browser sends one.

    Args:
        app: the application to protect.
        names: the host names to answer to besides loopback names.
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app = app
        self._names = frozenset(names)
        self._is_allowed = lru_cache(maxsize=64)(self._read)  # few hosts are in nearly all requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or refuse it with the name of the variable that lists the hosts."""
        hosts = Headers(scope=scope).getlist("host") if scope["type"] == "http" else []
        if all(map(self._is_allowed, hosts)):
            await self._app(scope, receive, send)
        else:
            await _misdirected(hosts)(scope, receive, send)

    def _read(self, host: str) -> bool:
        name = host_name(host)
        return name in self._names or is_loopback(name)


def _misdirected(hosts: Sequence[str]) -> Response:
    named = ", ".join(host[:_MAX_NAME_LENGTH] for host in hosts[:2])
    message = f"this server does not answer to the host {named!r}; list its own names in CG_ALLOWED_HOSTS"
    return reply({"error": "MisdirectedRequest", "message": message}, status=421)


async def redirect_trailing_slash(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a path without a route: redirect to the path without its trailing slash if that has a route.

    The redirect names a path only. Starlette's own redirect names the `Host` that the client sent.

    Raises:
        HTTPException: 404, that path has no route either.
    """
    path = scope["path"].rstrip("/")
    if path == scope["path"] or not _has_route({**scope, "path": path}):
        raise HTTPException(404)
    query = quote(scope["query_string"], safe=_SAFE_IN_QUERY)
    location = f"{quote(path)}?{query}" if query else quote(path)
    await Response(status_code=307, headers={"location": location})(scope, receive, send)


def _has_route(scope: Scope) -> bool:
    return any(route.matches(scope)[0] is not Match.NONE for route in scope["app"].routes)
