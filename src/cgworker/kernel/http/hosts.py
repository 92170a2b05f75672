"""Which hosts a server answers to, and redirects that lead to none."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
    """ASGI middleware: answers requests for loopback names and the given ones, and no others (421).

    Without it a web page of somebody else could talk to a kernel on its reader's machine, by a name of its
    own that leads to 127.0.0.1 (DNS rebinding). A request without a `Host` comes from no browser.
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app = app
        self._names = frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or say which variable lists the hosts."""
        hosts = Headers(scope=scope).getlist("host") if scope["type"] == "http" else []
        if all(self._allows(host_name(host)) for host in hosts):
            await self._app(scope, receive, send)
        else:
            await _misdirected(hosts)(scope, receive, send)

    def _allows(self, name: str) -> bool:
        return name in self._names or is_loopback(name)


def _misdirected(hosts: Sequence[str]) -> Response:
    named = ", ".join(host[:_MAX_NAME_LENGTH] for host in hosts[:2])
    message = f"this server does not answer to the host {named!r}; list its own names in CG_ALLOWED_HOSTS"
    return reply({"error": "MisdirectedRequest", "message": message}, status=421)


async def redirect_trailing_slash(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a path that has no route: lead to the same path without its final slash if that has one.

    Starlette's own redirect leads to the `Host` that the client named; this one to a path.
    """
    path = scope["path"].rstrip("/")
    if path == scope["path"] or not _has_route({**scope, "path": path}):
        raise HTTPException(404)
    query = quote(scope["query_string"], safe=_SAFE_IN_QUERY)
    location = f"{quote(path)}?{query}" if query else quote(path)
    await Response(status_code=307, headers={"location": location})(scope, receive, send)


def _has_route(scope: Scope) -> bool:
    return any(route.matches(scope)[0] is not Match.NONE for route in scope["app"].routes)
