"""Many items in one request (decision 9): each has its own bearer and is checked and answered on its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from starlette.requests import Request

from cgworker.errors import CommonGroundError, ConflictError, InvalidRequest
from cgworker.kernel.access import Caller, identify
from cgworker.kernel.http import item_answer
from cgworker.wire.refs import AgentRef
from cgworker.wire.turns import ItemAnswers

MOST_ITEMS = 1000
"""How many turns one request can claim, renew or settle."""


def require_count(count: int) -> None:
    """Raise InvalidRequest if a request asks for too much at once."""
    if count > MOST_ITEMS:
        msg = f"Value error, at most {MOST_ITEMS} at once"
        raise InvalidRequest([{"type": "too_long", "loc": ["body", "items"], "msg": msg}])


async def refusals_of(
    request: Request, project_id: str, shown: Sequence[tuple[AgentRef, str]], noun: str
) -> list[CommonGroundError | None]:
    """By place, why an item is refused before it is tried, if it is.

    Args:
        shown: the agent and the bearer of each item.
        noun: what the item calls its agent by, "agent" or "claim".
    """
    callers = await identify(request.app.state.kernel.database, shown)
    return [
        _refusal_of(agent, caller, project_id, noun)
        for (agent, _), caller in zip(shown, callers, strict=True)
    ]


def _refusal_of(
    agent: AgentRef, caller: Caller | CommonGroundError, project_id: str, noun: str
) -> CommonGroundError | None:
    if agent.project_id != project_id:
        return ConflictError(f"{noun} project must match path project")
    return caller if isinstance(caller, CommonGroundError) else None


def good_items(items: Iterable[Any], refusals: Sequence[CommonGroundError | None]) -> list[Any]:
    """The items that are not refused."""
    return [item for item, refusal in zip(items, refusals, strict=True) if refusal is None]


def answers_of(refusals: Sequence[CommonGroundError | None], done: Iterable[Any]) -> ItemAnswers:
    """The refusals, and in order what became of the other items."""
    rest: Iterator[Any] = iter(done)
    return ItemAnswers(items=tuple(item_answer(refusal or next(rest)) for refusal in refusals))
