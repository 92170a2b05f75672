"""Requests with many items: each item has its own credential, check and answer (difference 9)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from cgworker.errors import CommonGroundError, ConflictError, InvalidRequest, UnauthorizedError
from cgworker.kernel.http.messages import item_answer
from cgworker.kernel.store.callers import PresentedCredential
from cgworker.wire.refs import AgentRef
from cgworker.wire.turns import MAX_ITEMS

Item = TypeVar("Item")


def require_count(count: int) -> None:
    """Raise InvalidRequest if a request has too many items."""
    if count > MAX_ITEMS:
        msg = f"Value error, at most {MAX_ITEMS} at once"
        raise InvalidRequest([{"type": "too_long", "loc": ["body", "items"], "msg": msg}])


def bearers_of(
    project_id: str, presented: Iterable[tuple[AgentRef, str]], noun: str
) -> list[PresentedCredential | CommonGroundError]:
    """Return, by place, the credential that an item presents, or the refusal of its form.

    Args:
        project_id: the project of the path.
        presented: the agent and the token of each item.
        noun: the field of the item that names the agent: "agent" or "claim".
    """
    return [_bearer_of(project_id, agent, token, noun) for agent, token in presented]


def _bearer_of(
    project_id: str, agent: AgentRef, token: str, noun: str
) -> PresentedCredential | CommonGroundError:
    if agent.project_id != project_id:
        return ConflictError(f"{noun} project must match path project")
    try:
        return PresentedCredential.of(agent, token)
    except UnauthorizedError as refusal:
        return refusal


def authorized(
    items: Iterable[Item], bearers: Iterable[PresentedCredential | CommonGroundError]
) -> Iterator[tuple[Item, PresentedCredential]]:
    """Yield the items that have a credential, with it."""
    for item, bearer in zip(items, bearers, strict=True):
        if isinstance(bearer, PresentedCredential):
            yield item, bearer


def answers_of(
    bearers: Sequence[PresentedCredential | CommonGroundError], done: Iterable[Any]
) -> dict[str, Any]:
    """Return the answers in order, as ItemAnswers: the refusals, and the results of the other items."""
    rest = iter(done)
    return {
        "items": [item_answer(next(rest) if isinstance(one, PresentedCredential) else one) for one in bearers]
    }
