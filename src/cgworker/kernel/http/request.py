"""A request to the kernel, as its routes get it, and limits for its body (difference 37).

At most `MAX_UNAUTHENTICATED_BYTES` are read from a client without a valid credential. A larger body is read
only after its headers have authenticated the client. All bodies in a process share a memory budget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import starlette.requests
from attrs import define
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope

from cgworker.errors import KernelOverloaded, PayloadTooLarge

MAX_UNAUTHENTICATED_BYTES = 64 * 1024
"""How many bytes of a body are read before its client is authenticated."""

MAX_UNAUTHENTICATED_TOTAL_BYTES = 32 * 2**20
"""How many bytes all unauthenticated bodies may hold; above it, a small body needs a credential too."""

BODY_RECEIVED = "cgworker.body_is_received"
"""Key in the ASGI scope of a request whose body has arrived with its head: it needs no timeout."""

BODY_TAKEN = "cgworker.body_taken"
"""Key in the ASGI scope of a callback: call it once the route has taken over the bytes that were read."""

BODY_SHARE = "cgworker.held"
"""Key in the ASGI scope of a request whose body is counted in the budget: `release_body` returns it."""

CLIENT_GONE = 499
"""Status for a client that has disconnected, as in nginx: metrics then do not count it as an error."""

_UNCOUNTED = 4096  # bytes: smaller bodies, which most are, are not counted
_PARSED = 2**20  # bytes: what parsing an unauthenticated body may need besides
_RETRY_AFTER_SECONDS = 1.0


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


@define
class Bodies:
    """The bytes of request bodies that one kernel process holds, of authenticated clients and of others."""

    authenticated_bytes: int = 0
    unauthenticated_bytes: int = 0


@define(eq=False)
class _Share:
    """The share of one request in the budget."""

    bodies: Bodies
    max_bytes: int
    size: int = 0
    is_authenticated: bool = False

    def fits(self, size: int) -> bool:
        if self.is_authenticated:
            return self.bodies.authenticated_bytes - self.size + size <= self.max_bytes
        return self.bodies.unauthenticated_bytes - self.size + size <= MAX_UNAUTHENTICATED_TOTAL_BYTES

    def grow(self, size: int) -> None:
        if not self.fits(size):
            raise KernelOverloaded(
                "the kernel is busy with other large requests, try again",
                status=503,
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            )
        self._add(size - self.size)
        self.size = size

    def mark_authenticated(self) -> None:
        """Move the share to the authenticated bodies."""
        size = self.size
        self.release()
        self.is_authenticated = True
        self.grow(size)

    def release(self) -> None:
        self._add(-self.size)
        self.size = 0

    def _add(self, count: int) -> None:
        if self.is_authenticated:
            self.bodies.authenticated_bytes += count
        else:
            self.bodies.unauthenticated_bytes += count


async def read_body(request: Request) -> list[bytes]:
    """Read the body, in pieces as they arrive, within the limits of size and time.

    Raises:
        UnauthorizedError, ForbiddenError: the body is large and its headers have no valid credential.
        PayloadTooLarge: 413, the body exceeds `max_body_bytes`, or is large on a route without credentials.
        KernelOverloaded: 503, the budget of the process is used up.
        HTTPException: 408, the body arrived too slowly; 499, the client disconnected.
    """
    if BODY_RECEIVED in request.scope:
        return await _read(request)
    seconds = request.kernel.config.max_body_seconds
    try:
        async with asyncio.timeout(seconds):
            return await _read(request)
    except TimeoutError:
        late = f"the body did not arrive within {seconds} seconds"
        raise HTTPException(408, late, {"connection": "close"}) from None


async def _read(request: Request) -> list[bytes]:
    length = request.header("content-length") or ""
    declared = int(length) if length.isdecimal() else 0  # 0 if it comes in chunks
    max_small = min(_UNCOUNTED, request.kernel.config.max_body_bytes)
    if declared > max_small:
        await _admit(request, declared)
    chunks, size, has_more = [], 0, True
    while has_more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(CLIENT_GONE, "the client hung up before its request was whole")
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > max(declared, max_small):
            await _admit(request, size)
        chunks.append(chunk)
        has_more = message.get("more_body", False)
    request.body_bytes = size
    if (taken := request.scope.get(BODY_TAKEN)) is not None:
        taken()
    if size > max_small:
        await _admit(request, size, is_whole=True)
    return chunks


async def _admit(request: Request, size: int, *, is_whole: bool = False) -> None:
    """Count so much of the body; if it is large, authenticate the client first."""
    max_bytes = request.kernel.config.max_body_bytes
    share = _share_of(request)
    counted = size + _PARSED if is_whole else size
    if not share.is_authenticated and (size > MAX_UNAUTHENTICATED_BYTES or not share.fits(counted)):
        await _authenticate(request, share, size)
    if size > max_bytes:
        raise PayloadTooLarge(f"the body is over {max_bytes} bytes")
    share.grow(size if share.is_authenticated else counted)


async def _authenticate(request: Request, share: _Share, size: int) -> None:
    """Authenticate the client by the headers, if the route has credentials."""
    if request.identify is not None:
        await request.identify(request)
        share.mark_authenticated()
    elif size > MAX_UNAUTHENTICATED_BYTES:
        raise PayloadTooLarge(f"the body is over {MAX_UNAUTHENTICATED_BYTES} bytes")


def _share_of(request: Request) -> _Share:
    share = request.scope.get(BODY_SHARE)
    if share is None:
        kernel = request.kernel
        share = request.scope[BODY_SHARE] = _Share(kernel.bodies, kernel.config.max_bodies_bytes)
    return share


def release_body(scope: Scope) -> None:
    """Return the share of an answered request to the budget."""
    scope[BODY_SHARE].release()
