"""One row of the route table: method, path, endpoint, and the types of its request and its answer.

`/openapi.json` is generated from these rows, so it always describes what is served.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from cgworker.kernel.access import authenticate
from cgworker.kernel.http.request import Request

Endpoint = Callable[[Request], Awaitable[Response]]


class Operation(Route):
    """A route for exactly one method; the first line of its endpoint's docstring is its summary.

    Args:
        takes: the wire type of the body; None for no body.
        gives: the wire type of the answer, or a union of it and None.
        gives_when_away: the wire type of the 503 with the database unavailable, if it is no refusal.
        media_type: the media type of the answer.
        query: the class of the query parameters (see `http.read_query`).
        headers: request headers besides those of authentication, such as Prefer.
        identified_by: the headers that authenticate the caller: "project", "agent" and "bearer", or "bearer"
            alone; none if the route is open, or each item of the body has its own credential.
        identify: authenticates the caller of a large body before it is read, or raises; None if the headers
            have no credential, so that large bodies are refused.
        noun: what the operation is about, its tag in `/openapi.json`; None takes the endpoint's module.
    """

    def __init__(  # noqa: PLR0913  # a route is described where it is declared
        self,
        method: str,
        path: str,
        endpoint: Endpoint,
        *,
        takes: type | None = None,
        gives: Any = Any,
        gives_when_away: type | None = None,
        media_type: str = "application/json",
        query: type | None = None,
        headers: tuple[str, ...] = (),
        identified_by: tuple[str, ...] = ("project", "agent", "bearer"),
        identify: Callable[[Request], Awaitable[Any]] | None = authenticate,
        noun: str | None = None,
    ) -> None:
        super().__init__(path, endpoint, methods=[method])
        self.method = method
        self.methods: set[str] | None = {method}  # without HEAD: the reference answers it with a 405
        end = path.rpartition("}")[2]
        self.ends: tuple[str, str] = end, f"{end}\n"  # the pattern lets a last line break pass
        self.takes = takes
        self.gives = gives
        self.gives_when_away = gives_when_away
        self.media_type = media_type
        self.query = query
        self.headers = headers
        self.identified_by = identified_by
        self.identify = identify
        self.noun: str = noun or str(endpoint.__module__).rpartition(".")[2]
        self.summary: str = (endpoint.__doc__ or "").partition("\n")[0]
