"""The kernel's application: a Starlette router that serves the kernel's operations by itself.

`starlette.applications.Starlette` would pass each request through six layers, each with a function of its own
for each message that is sent.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from cgworker.errors import CommonGroundError
from cgworker.kernel.http.hosts import AllowedHosts, misdirected
from cgworker.kernel.http.messages import error_response, http_error_response, internal_error_response
from cgworker.kernel.http.request import BODY_SHARE, Request, release_body
from cgworker.kernel.openapi.operation import Operation

_SAFE_IN_QUERY = "%/?:@!$&'()*+,;=-._~"


class Application(Router):
    """A router of operations: it counts requests, checks their `Host`, and turns errors into responses.

    What is no HTTP request, such as a lifespan, is left to Starlette.

    Args:
        kernel: the state that the routes share; its metrics count the requests.
        routes: of several that match, the first one answers.
        hosts: the host names to answer to besides loopback names; None answers to every name.
    """

    def __init__(self, kernel: Any, routes: Sequence[Operation], hosts: Collection[str] | None) -> None:
        super().__init__(routes, redirect_slashes=False)
        self._operations = routes
        self._kernel = kernel
        self._hosts = None if hosts is None else AllowedHosts(hosts)
        self._by_method: dict[str, list[Operation]] = defaultdict(list)
        for route in routes:
            self._by_method[route.method].append(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and count it when its response has been sent."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0
        scope["app"] = self
        request = Request(scope, receive, self._kernel)
        try:
            response = await self._response_to(request)
            status = response.status_code
            await response(scope, receive, send)
        except Exception as fault:
            if not status:
                status = 500
                await internal_error_response(request, fault)(scope, receive, send)
            raise
        finally:
            if BODY_SHARE in scope:
                release_body(scope)
            seconds = time.perf_counter() - begun
            self._kernel.metrics.requests.count(scope["method"], request.route_path, status, seconds)

    async def _response_to(self, request: Request) -> Response:
        scope = request.scope
        try:
            for name, value in scope["headers"]:
                if name == b"host" and self._hosts is not None and not self._hosts.allow(value):
                    return misdirected(scope)
            path = scope["path"]
            for route in self._by_method.get(scope["method"], ()):
                # The end of the path rules out most routes.
                if path.endswith(route.ends) and (found := route.path_regex.match(path)):
                    request.route_path, request.identify = route.path, route.identify
                    request.path_values = found.groupdict()
                    response: Response = await route.endpoint(request)
                    return response
            return self._without_route(request)
        except CommonGroundError as refused:
            return error_response(refused)
        except HTTPException as refused:
            return http_error_response(refused)

    def _without_route(self, request: Request) -> Response:
        """Redirect to the path without its trailing slash, if that has a route.

        The redirect names a path only: the `Host` is the client's word.

        Raises:
            HTTPException: 405, the path has other methods; 404, it is not known.
        """
        path = request.scope["path"]
        if (route := self._any_route(path)) is not None:
            request.route_path = route.path
            raise HTTPException(405, headers={"Allow": route.method})
        shorter = path.rstrip("/")
        if shorter == path or self._any_route(shorter) is None:
            raise HTTPException(404)
        query = quote(request.scope["query_string"], safe=_SAFE_IN_QUERY)
        location = f"{quote(shorter)}?{query}" if query else quote(shorter)
        return Response(status_code=307, headers={"location": location})

    def _any_route(self, path: str) -> Operation | None:
        return next((route for route in self._operations if route.path_regex.match(path)), None)
