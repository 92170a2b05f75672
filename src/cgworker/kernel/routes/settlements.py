"""Route to settle many turns in one request."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

from starlette.responses import Response

from cgworker.errors import CommonGroundError, InvalidRequest
from cgworker.kernel.http.messages import item_answer, path_id, read, reply, require_key
from cgworker.kernel.http.request import Request
from cgworker.kernel.long_poll.long_poll import Preferences
from cgworker.kernel.long_poll.notifier import turn_topics, work_topic
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.routes.claims import claim_each, record_limit, represent, wake_claimed
from cgworker.kernel.routes.items import authorized, bearers_of, require_count
from cgworker.kernel.store.batch import Answers, resolve_all
from cgworker.kernel.store.callers import PresentedCredential
from cgworker.kernel.store.claims.claim import Claimed
from cgworker.kernel.store.claims.fence import Fenced
from cgworker.kernel.store.claims.finish import Settled, check_outcome, finish_turns
from cgworker.kernel.store.claims.finish_and_claim import FinishAndClaim, FinishedAndClaimed
from cgworker.kernel.store.claims.reclaim import ClaimRequest
from cgworker.kernel.store.claims.suspend import suspend_turns
from cgworker.wire.claims import ClaimNext
from cgworker.wire.converter import unstructure
from cgworker.wire.refs import ClaimToken
from cgworker.wire.turns import (
    Done,
    Finish,
    NextClaim,
    SettleAnswers,
    SettleItem,
    SettleMany,
    Suspend,
)

_DONE = unstructure(Done())


async def settle_many(request: Request) -> Response:
    """Finish or suspend many turns, each answered as by its single route; an item may claim the next."""
    body = await read(request, SettleMany)
    project_id = path_id(request, "project_id")
    _check_items(body)
    found = bearers_of(project_id, [(item.claim.agent, item.credential) for item in body.items], "claim")
    bearers = [_item_fault(item) or bearer for item, bearer in zip(body.items, found, strict=True)]
    tried = list(authorized(body.items, bearers))
    preferences = Preferences(request, waits=False, represents=True)
    both = await _finish_and_claim(request, project_id, tried, preferences)
    rest = [pair for pair, answer in zip(tried, both, strict=True) if answer is None]
    settled = iter(await _settle(request, project_id, rest, is_all=len(rest) == len(tried)))
    claimed = iter(await _claim_next(request, project_id, rest, preferences))
    answers = iter(
        [
            answer or _answer_of(next(settled), next(claimed) if _has_next(item) else None)
            for (item, _), answer in zip(tried, both, strict=True)
        ]
    )
    items = (next(answers) if isinstance(one, PresentedCredential) else _answer_of(one) for one in bearers)
    return reply({"items": list(items)}, headers=preferences.applied())


def _check_items(body: SettleMany) -> None:
    require_count(sum(2 if _has_next(item) else 1 for item in body.items))
    for place, item in enumerate(body.items):
        if isinstance(item.next, NextClaim):
            require_key(item.next.idempotency_key, ["body", "items", place, "next", "idempotency_key"])


def _item_fault(item: SettleItem) -> InvalidRequest | None:
    """The fault that the item's own route would find before it authenticates the caller; None for none."""
    if (item.finish is None) == (item.suspend is None):
        msg = "Value error, exactly one of finish and suspend is required"
        return InvalidRequest([{"type": "value_error", "loc": ["body"], "msg": msg}])
    try:
        if item.finish is not None:
            check_outcome(item.finish)
    except InvalidRequest as fault:
        return fault
    return None


def _has_next(item: SettleItem) -> bool:
    return isinstance(item.next, NextClaim)


def _answer_of(settled: Any, claimed: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the answer for one item, a SettleAnswer."""
    answer = item_answer(settled)
    if claimed is not None:
        answer["next"] = claimed
    return answer


async def _finish_and_claim(
    request: Request,
    project_id: str,
    items: list[tuple[SettleItem, PresentedCredential]],
    preferences: Preferences,
) -> list[dict[str, Any] | None]:
    """Finish and claim for the items that ask for both; by place, None for those that are not answered."""
    kernel = request.kernel
    limit = record_limit(preferences)
    wanted = [
        FinishAndClaim(
            Fenced(item.claim, bearer, item.finish),
            ClaimRequest(ClaimNext(agent=bearer.agent), bearer, item.next.idempotency_key, limit),
        )
        if item.finish is not None and isinstance(item.next, NextClaim)
        else None
        for item, bearer in items
    ]
    asked = [each for each in wanted if each is not None]
    found = await kernel.operations.finish_and_claim_many(project_id, asked) if asked else []
    _notify_both(kernel, asked, found)
    answers = iter(
        [one and _answer_of(_DONE, _answer_of_claim(kernel, one.claimed, preferences)) for one in found]
    )
    return [None if one is None else next(answers) for one in wanted]


def _notify_both(kernel: Any, asked: list[FinishAndClaim], found: list[FinishedAndClaimed | None]) -> None:
    """Count the claims, and wake the requests that wait for the settled and for the claimed turns."""
    claimed = [one.claimed for one in found if one is not None and isinstance(one.claimed, Claimed)]
    kernel.metrics.claims.inc(len(claimed))
    if not kernel.notifier.is_heard:
        return
    for item, one in zip(asked, found, strict=True):
        if one is not None:
            wake_settled(kernel, item.finish.claim, one.settled)
    for claim in claimed:
        wake_claimed(kernel, claim)


async def _settle(
    request: Request,
    project_id: str,
    items: list[tuple[SettleItem, PresentedCredential]],
    *,
    is_all: bool,
) -> list[dict[str, Any] | CommonGroundError]:
    """Settle the turns and return the answers by place.

    Finishes run first. What was done stands even if what follows fails.

    Args:
        request: the request.
        project_id: the project.
        items: the items.
        is_all: whether nothing has been done for other items of the request.
    """
    kernel = request.kernel
    settles = [Fenced(item.claim, bearer, item.finish or item.suspend) for item, bearer in items]
    finishes = [item for item in settles if isinstance(item.what, Finish)]
    suspends = [item for item in settles if isinstance(item.what, Suspend)]
    finished = await _answers_or_trouble(kernel, finishes, finish_turns, project_id, raises=is_all)
    suspended = await _answers_or_trouble(
        kernel, suspends, suspend_turns, project_id, raises=is_all and not finishes
    )
    return [next(finished if isinstance(item.what, Finish) else suspended) for item in settles]


async def _answers_or_trouble(
    kernel: Any, items: list[Fenced[Any]], settle: Any, project_id: str, *, raises: bool
) -> Iterator[dict[str, Any] | CommonGroundError]:
    """Settle turns; trouble with all of them is raised, or else it is the answer to each."""
    try:
        answers = await settle(kernel.database, project_id, items)
        return iter(await _resolve_and_notify(kernel, items, answers))
    except CommonGroundError as trouble:
        if raises:
            raise
        return repeat(trouble)


async def _resolve_and_notify(
    kernel: Any, items: list[Fenced[Any]], answers: Answers[Settled]
) -> list[dict[str, Any] | CommonGroundError]:
    """Run the deferred answers, and wake the requests that wait for the settled turns."""
    outcomes = await resolve_all(answers)
    for item, settled in zip(items, outcomes, strict=True):
        if isinstance(settled, Settled):
            notify_settled(kernel, item.claim, settled)
    return [_DONE if isinstance(settled, Settled) else settled for settled in outcomes]


async def _claim_next(
    request: Request,
    project_id: str,
    items: list[tuple[SettleItem, PresentedCredential]],
    preferences: Preferences,
) -> list[dict[str, Any]]:
    """Claim the next turns for the items that ask for one, and return their answers in order.

    A failure is the answer to these claims; the settled turns stay settled.
    """
    kernel = request.kernel
    wanted = [
        (bearer, item.next.idempotency_key) for item, bearer in items if isinstance(item.next, NextClaim)
    ]
    try:
        outcomes = await claim_each(kernel, project_id, wanted, preferences)
    except CommonGroundError as trouble:
        outcomes = [trouble] * len(wanted)
    return [_answer_of_claim(kernel, found, preferences) for found in outcomes]


def _answer_of_claim(
    kernel: Any, found: Claimed | CommonGroundError | None, preferences: Preferences
) -> dict[str, Any]:
    return item_answer(represent(kernel, found, preferences) if isinstance(found, Claimed) else found)


def notify_settled(kernel: Any, claim: ClaimToken, settled: Settled) -> None:
    """Wake the requests that wait for the settled turn, its agent, its parent or its project.

    A turn that is to be queued again may also be the earliest that the timers wait for.
    """
    if kernel.notifier.is_heard:
        wake_settled(kernel, claim, settled)
    if settled.due_seconds is not None:
        kernel.timers.expect(settled.due_seconds)


def wake_settled(kernel: Any, claim: ClaimToken, settled: Settled) -> None:
    """Wake the requests that wait for a settled turn, its agent, its parent or its project."""
    kernel.notifier.wake(work_topic(claim.agent), *turn_topics(claim.turn, claim.agent, settled.parent))


routes: list[Operation] = [
    Operation(
        "POST",
        "/v3r1/projects/{project_id}/turns:settle-many",
        settle_many,
        takes=SettleMany,
        headers=("Prefer",),
        gives=SettleAnswers,
        identified_by=(),
        noun="turns",
    ),
]
