"""How much of a body is read, and for whom (difference 37).

A client that has not shown a valid credential gets `MAX_UNAUTHENTICATED_BYTES` of a body read and no more. A
larger body is read once its headers have proved the sender; all bodies in a process share a budget.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

from attrs import define
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from cgworker.errors import KernelOverloaded, PayloadTooLarge

MAX_UNAUTHENTICATED_BYTES = 64 * 1024
"""How much of a body is read before its sender has shown a credential."""

MAX_UNAUTHENTICATED_TOTAL_BYTES = 32 * 2**20
"""How much the bodies of all strangers may hold; above it, also a small body needs a credential first."""

BODY_RECEIVED = "cgworker.body_is_here"
"""In the ASGI scope of a request whose body came with its head: no time to be watched."""

BODY_TAKEN = "cgworker.body_taken"
"""In the ASGI scope where the server counts what it has read: to be called when that has been taken over."""

_RESERVATION = "cgworker.held"

CLIENT_GONE = 499
"""Nobody gets this answer; nginx's number for it, so that figures do not take it for a fault of ours."""

_UNCOUNTED = 4096  # bytes: most bodies are smaller, and are not worth counting
_PARSED = 2**20  # bytes: what parsing a stranger's body may take beside it
_RETRY_AFTER_SECONDS = 1.0


@define
class Bodies:
    """How many bytes of bodies one kernel process holds, of callers and of strangers."""

    authenticated_bytes: int = 0
    unauthenticated_bytes: int = 0


@define(eq=False)
class _Reservation:
    """What one request holds of it."""

    bodies: Bodies
    most: int
    size: int = 0
    is_authenticated: bool = False

    def fits(self, size: int) -> bool:
        if self.is_authenticated:
            return self.bodies.authenticated_bytes - self.size + size <= self.most
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

    def know(self) -> None:
        """From now on it is a caller's."""
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
    """The body in pieces as it came, within the limits of size and time.

    Raises:
        UnauthorizedError, ForbiddenError: it is large, and its headers show no valid credential.
        PayloadTooLarge: 413, it is larger than any may be, or large where nobody says who they are.
        KernelOverloaded: 503, the process holds as much as it may.
        HTTPException: 408, it came too slowly.
    """
    config = request.app.state.kernel.config
    is_here = BODY_RECEIVED in request.scope
    try:
        async with nullcontext() if is_here else asyncio.timeout(config.max_body_seconds):
            return await _read(request, config.max_body_bytes)
    except TimeoutError:
        late = f"the body did not arrive within {config.max_body_seconds} seconds"
        raise HTTPException(408, late, {"connection": "close"}) from None
    except ClientDisconnect:
        raise HTTPException(CLIENT_GONE, "the client hung up before its request was whole") from None


async def _read(request: Request, max_bytes: int) -> list[bytes]:
    declared = _declared(request)
    await _admit(request, declared, max_bytes)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > declared:
            await _admit(request, size, max_bytes)
        chunks.append(chunk)
    request.state.body_bytes = size
    if (taken := request.scope.get(BODY_TAKEN)) is not None:
        taken()
    await _admit(request, size, max_bytes, is_whole=True)
    return chunks


def _declared(request: Request) -> int:
    """What the head says of the body's length; nothing where it comes in chunks."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isdecimal() else 0


async def _admit(request: Request, size: int, max_bytes: int, *, is_whole: bool = False) -> None:
    """Let so much of the body in: count it, and before that look at who sends it if it is much."""
    if size <= _UNCOUNTED and size <= max_bytes:
        return
    held = _held_by(request)
    counted = size + _PARSED if is_whole else size
    if not held.is_authenticated and (size > MAX_UNAUTHENTICATED_BYTES or not held.fits(counted)):
        await _know(request, held, size)
    if size > max_bytes:
        raise PayloadTooLarge(f"the body is over {max_bytes} bytes")
    held.grow(size if held.is_authenticated else counted)


async def _know(request: Request, held: _Reservation, size: int) -> None:
    """Look at who sends the body, where its route has a way to."""
    identify = request.scope["operation"].identify
    if identify is not None:
        await identify(request)
        held.know()
    elif size > MAX_UNAUTHENTICATED_BYTES:
        raise PayloadTooLarge(f"the body is over {MAX_UNAUTHENTICATED_BYTES} bytes")


def _held_by(request: Request) -> _Reservation:
    held = request.scope.get(_RESERVATION)
    if held is None:
        kernel = request.app.state.kernel
        held = request.scope[_RESERVATION] = _Reservation(kernel.bodies, kernel.config.max_bodies_bytes)
    return held


def release_body(scope: Scope) -> None:
    """Count the body of a request no more: it has been answered."""
    held = scope.get(_RESERVATION)
    if held is not None:
        held.release()
