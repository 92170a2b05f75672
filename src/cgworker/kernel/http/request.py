"""A request to the kernel, as its routes get it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import starlette.requests
from starlette.types import Receive, Scope


class Request(starlette.requests.Request):
    """Starlette's request, with what the kernel's routes need beside it.

    Args:
        scope: the ASGI scope.
        receive: receives the parts of the body.
        kernel: the state of the kernel (app.py).

    Attributes:
        kernel: the same.
        route_path: the path of its route, with the names of parameters; "(none)" without a route.
        path_values: the values of the path's parameters, by name.
        identify: authenticates the caller of a large body; None if the route's headers have no credential.
        body_bytes: the size of the body, once it has been read.
        header: returns the value of the first header with a name in lower case; None if there is none.
            Starlette's `headers` looks through all of them, and a request has ten looks.
    """

    def __init__(self, scope: Scope, receive: Receive, kernel: Any) -> None:
        super().__init__(scope, receive)
        self.kernel: Any = kernel
        self.route_path: str = "(none)"
        self.path_values: Mapping[str, str] = {}
        self.identify: Callable[[Request], Awaitable[Any]] | None = None
        self.body_bytes: int = 0
        self.header: Callable[[str], str | None] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])
        }.get
