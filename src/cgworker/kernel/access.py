"""Authentication of requests: read the presented credential, and check it if no statement does so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from cgworker.errors import UnauthorizedError
from cgworker.kernel.http.request import Request
from cgworker.kernel.long_poll.long_poll import long_poll
from cgworker.kernel.store.callers import Caller, PresentedCredential
from cgworker.wire.refs import AgentRef
from cgworker.wire.refusals import Refusal

T = TypeVar("T")


def read_bearer(request: Request) -> PresentedCredential:
    """Read the credential that the request presents, unchecked: the route's statement checks it.

    Raises:
        UnauthorizedError: a header is missing or not in the form of wire 3.
    """
    config = request.kernel.config
    project_id = request.header(config.project_header.lower())
    agent_id = request.header(config.agent_header.lower())
    if not project_id or not agent_id:
        raise Refusal.IDENTITY_MISSING.error()
    authorization = request.header("authorization")
    if not authorization:
        raise UnauthorizedError("agent credential authorization is required")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthorizedError("agent credential authorization must use Bearer token")
    return PresentedCredential.of(AgentRef(project_id=project_id, agent_id=agent_id), token.strip())


async def authenticate(request: Request) -> Caller:
    """Return the authenticated caller of a request; costs one statement, which busy kernels share.

    Raises:
        UnauthorizedError, ForbiddenError: in the order and words of wire 3.
    """
    return await _identify(request, read_bearer(request))


async def _identify(request: Request, bearer: PresentedCredential) -> Caller:
    caller: Caller = await request.kernel.operations.identify(bearer.agent.project_id, bearer)
    return caller


async def require_reader(request: Request, project_id: str) -> None:
    """Refuse a request unless its caller is an agent of the project.

    Raises:
        UnauthorizedError, ForbiddenError: as `authenticate`, and for an agent of another project.
    """
    (await authenticate(request)).require_reads(project_id)


def reader_check(request: Request, project_id: str) -> Callable[[], Awaitable[None]]:
    """Return what checks the caller as `require_reader` does, each time it is called.

    Raises:
        UnauthorizedError: a header is missing or not in the form of wire 3.
    """
    bearer = read_bearer(request)

    async def check() -> None:
        (await _identify(request, bearer)).require_reads(project_id)

    return check


async def long_poll_as_reader(
    request: Request,
    project_id: str,
    topics: Iterable[str],
    read: Callable[[], Awaitable[T]],
    *,
    is_new: Callable[[T], bool],
    wait_seconds: float | None,
) -> T:
    """Like `long_poll`, for agents of the project: checked at once, and before a new result after a wait.

    Raises:
        UnauthorizedError, ForbiddenError: as `require_reader`.
    """
    check = reader_check(request, project_id)
    await check()
    return await long_poll(request, topics, read, is_new=is_new, wait_seconds=wait_seconds, check=check)


async def bearer_acting_as(request: Request, actor: AgentRef) -> PresentedCredential:
    """Like `read_bearer`, and the bearer must be `actor`.

    On a mismatch the credential is checked first, so that only an authenticated caller learns of it.

    Raises:
        UnauthorizedError, ForbiddenError: as `authenticate`, and for another actor.
    """
    bearer = read_bearer(request)
    if bearer.agent != actor:
        (await authenticate(request)).require_is(actor)
    return bearer
