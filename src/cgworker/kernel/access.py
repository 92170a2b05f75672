"""Who calls: what a request shows of its caller, and the caller itself where no statement of its own asks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TypeVar

from starlette.requests import Request

from cgworker.errors import UnauthorizedError
from cgworker.kernel.long_poll.long_poll import long_poll
from cgworker.kernel.store.callers import Caller, PresentedCredential, require_caller
from cgworker.wire.refs import AgentRef

T = TypeVar("T")


def read_bearer(request: Request) -> PresentedCredential:
    """Who the request says it comes from, unchecked: for a statement that checks it itself.

    Raises:
        UnauthorizedError: it does not say it in the form of wire 3.
    """
    config = request.app.state.kernel.config
    project_id = request.headers.get(config.project_header)
    agent_id = request.headers.get(config.agent_header)
    if not project_id or not agent_id:
        raise UnauthorizedError("claimed agent identity headers are required")
    token = _token(request.headers.get("authorization"))
    return PresentedCredential.of(AgentRef(project_id=project_id, agent_id=agent_id), token)


async def authenticate(request: Request) -> Caller:
    """The caller of a request, with one statement.

    Raises:
        UnauthorizedError, ForbiddenError: in the order and words of wire 3.
    """
    return await require_caller(request.app.state.kernel.database, read_bearer(request))


async def require_reader(request: Request, project_id: str) -> None:
    """Refuse a request unless an agent of the project makes it.

    Raises:
        UnauthorizedError, ForbiddenError: as `authenticate`, and for an agent of another project.
    """
    (await authenticate(request)).require_reads(project_id)


async def long_poll_as_reader(
    request: Request,
    project_id: str,
    topics: Iterable[str],
    read: Callable[[], Awaitable[T]],
    *,
    is_new: Callable[[T], bool],
    wait_seconds: float | None,
) -> T:
    """As `long_poll`, for agents of the project alone: checked at once, and again before news after a wait.

    Raises:
        UnauthorizedError, ForbiddenError: as `require_reader`.
    """
    check = partial(require_reader, request, project_id)
    await check()
    return await long_poll(request, topics, read, is_new=is_new, wait_seconds=wait_seconds, check=check)


async def bearer_acting_as(request: Request, actor: AgentRef) -> PresentedCredential:
    """As `read_bearer`, for a request that names who acts; is it another, only a true caller is told so.

    Raises:
        UnauthorizedError, ForbiddenError: as `authenticate`, and for another actor.
    """
    bearer = read_bearer(request)
    if bearer.agent != actor:
        (await authenticate(request)).require_is(actor)
    return bearer


def _token(authorization: str | None) -> str:
    if not authorization:
        raise UnauthorizedError("agent credential authorization is required")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthorizedError("agent credential authorization must use Bearer token")
    return token.strip()
