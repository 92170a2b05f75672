"""Routes about claims (wire 6.4, differences 4, 7, 8, 9)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any

from starlette.responses import Response

from cgworker.errors import CommonGroundError, InvalidRequest
from cgworker.kernel.access import authenticate, bearer_acting_as
from cgworker.kernel.http.held import HeldResponse
from cgworker.kernel.http.messages import idempotency_key, path_id, read, reply, require_key, require_same
from cgworker.kernel.http.request import Request
from cgworker.kernel.long_poll.long_poll import Preferences, long_poll
from cgworker.kernel.long_poll.notifier import turn_topics, work_topic
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.routes.items import answers_of, authorized, bearers_of, require_count
from cgworker.kernel.store.batch import resolve_all
from cgworker.kernel.store.callers import PresentedCredential
from cgworker.kernel.store.claims.claim import Claimed
from cgworker.kernel.store.claims.fence import Fenced
from cgworker.kernel.store.claims.reclaim import ClaimRequest
from cgworker.kernel.store.claims.reconcile import reconcile_agent
from cgworker.kernel.store.claims.renew import renew_claims
from cgworker.kernel.store.records import context_of
from cgworker.kernel.store.turns import snapshot_of
from cgworker.wire.claims import (
    ClaimedTurn,
    ClaimItem,
    ClaimMany,
    ClaimNext,
    Reconciled,
    ReconcileExpired,
    Renewal,
    RenewClaim,
    RenewMany,
)
from cgworker.wire.refs import ClaimToken
from cgworker.wire.turns import ItemAnswers

CONTEXT_RECORDS = 100
"""How many records a claim brings along; the same as the first page of a context."""


async def claim(request: Request) -> Response:
    """Claim the agent's oldest queued turn; null when there is none."""
    body = await read(request, ClaimNext)
    project_id, agent_id = path_id(request, "project_id"), path_id(request, "agent_id")
    require_same(body.agent.project_id, project_id, "agent project must match path project")
    require_same(body.agent.agent_id, agent_id, "path agent_id must match request agent")
    preferences = Preferences(request, represents=True)
    key = idempotency_key(request)
    wanted = ClaimRequest(body, await bearer_acting_as(request, body.agent), key, record_limit(preferences))
    kernel = request.kernel
    claimed = await long_poll(
        request,
        [work_topic(body.agent)],
        lambda: kernel.operations.claim(project_id, wanted),
        is_new=lambda found: found is not None,
        wait_seconds=preferences.wait_seconds,
        pause=partial(kernel.operations.parked.wait, wanted),
    )
    if claimed is None:
        return reply(None, headers=preferences.applied())
    answer = reply(represent(kernel, claimed, preferences), headers=preferences.applied())
    if claimed.holds_from <= asyncio.get_running_loop().time():
        notify_claimed(kernel, claimed)
        return answer
    return HeldResponse(answer, claimed.holds_from, partial(notify_claimed, kernel, claimed))


def record_limit(preferences: Preferences) -> int:
    """Return how many records a claim brings along."""
    return CONTEXT_RECORDS if preferences.wants_representation else 0


def notify_claimed(kernel: Any, claimed: Claimed) -> None:
    """Count a claim, and wake the requests that wait for its turn or agent."""
    kernel.metrics.claims.inc()
    if kernel.notifier.is_heard:
        wake_claimed(kernel, claimed)


def wake_claimed(kernel: Any, claimed: Claimed) -> None:
    """Wake the requests that wait for a claimed turn or its agent."""
    more_work = [work_topic(claimed.token.agent)] if claimed.gave_back else []
    kernel.notifier.wake(*turn_topics(claimed.token.turn, claimed.token.agent), *more_work)


def represent(kernel: Any, claimed: Claimed, preferences: Preferences) -> ClaimToken | dict[str, Any]:
    """Return the claim as it is sent: a ClaimedTurn, with its context and lease, if the client prefers that.

    A context that is too large for one page is omitted; the client then reads it page by page.
    """
    if not preferences.wants_representation:
        return claimed.token
    token, row = claimed.token, claimed.row
    answer = {
        "project_id": token.project_id,
        "turn_id": token.turn_id,
        "agent_id": token.agent_id,
        "token": token.token,
        "expires_at": token.expires_at,
    }
    if claimed.has_all_records:
        answer["context"] = context_of(snapshot_of(row), claimed.records)
    answer["lease_seconds"] = kernel.config.lease.total_seconds()
    answer["server_time"] = max(row["server_time"], row["updated_at"])
    answer["attempt"] = row["attempt"]
    return answer


async def renew(request: Request) -> Response:
    """Extend the lease of a claim."""
    body = await read(request, RenewClaim)
    claim_project = body.claim.project_id
    require_same(claim_project, path_id(request, "project_id"), "claim project must match path project")
    bearer = await bearer_acting_as(request, body.claim.agent)
    renew_claim = request.kernel.operations.renew
    return reply(await renew_claim(claim_project, Fenced(body.claim, bearer, None)))


async def reconcile_expired(request: Request) -> Response:
    """Give back the agent's own turns whose lease has ended."""
    body = await read(request, ReconcileExpired)
    project_id = path_id(request, "project_id")
    if body.agent is not None:
        require_same(body.agent.project_id, project_id, "agent project must match path project")
    caller = await authenticate(request)
    agent = body.agent or caller.agent
    require_same(agent.project_id, project_id, "caller project must match path project")
    caller.require_is(agent)
    kernel = request.kernel
    given_back = await reconcile_agent(kernel.database, agent, body)
    for turn, _ in given_back:
        kernel.notifier.wake(work_topic(agent), *turn_topics(turn, agent))
    return reply(Reconciled(scanned_count=len(given_back), reconciled_count=len(given_back)))


# ---------------------------------------------------------------- many in one request


async def claim_many(request: Request) -> Response:
    """Claim for many agents; each item is answered with a list of claims."""
    body = await read(request, ClaimMany)
    project_id = path_id(request, "project_id")
    preferences = Preferences(request, represents=True)
    _check_items(body)
    bearers = bearers_of(project_id, [(item.agent, item.credential) for item in body.items], "agent")
    wanted = list(authorized(body.items, bearers))
    found = await long_poll(
        request,
        [work_topic(item.agent) for item, _ in wanted],
        lambda: _claim_items(request, project_id, wanted, preferences),
        is_new=_is_new,
        wait_seconds=preferences.wait_seconds,
    )
    return reply(answers_of(bearers, found), headers=preferences.applied())


def _is_new(answers: list[list[Any] | CommonGroundError]) -> bool:
    """Whether an item got a claim, or no item can get one any more."""
    waiting = [claims for claims in answers if isinstance(claims, list)]
    return any(waiting) or not waiting


def _check_items(body: ClaimMany) -> None:
    for place, item in enumerate(body.items):
        require_key(item.idempotency_key, ["body", "items", place, "idempotency_key"])
        if item.limit < 1:
            msg = "Input should be greater than or equal to 1"
            loc = ["body", "items", place, "limit"]
            raise InvalidRequest([{"type": "greater_than_equal", "loc": loc, "msg": msg}])
    require_count(sum(item.limit for item in body.items))


async def _claim_items(
    request: Request,
    project_id: str,
    items: list[tuple[ClaimItem, PresentedCredential]],
    preferences: Preferences,
) -> list[list[Any] | CommonGroundError]:
    kernel = request.kernel
    wanted = [(bearer, _key_at(item, nth)) for item, bearer in items for nth in range(item.limit)]
    outcomes = iter(await claim_each(kernel, project_id, wanted, preferences))
    return [_claims_of(kernel, list(islice(outcomes, item.limit)), preferences) for item, _ in items]


async def claim_each(
    kernel: Any,
    project_id: str,
    wanted: Sequence[tuple[PresentedCredential, str | None]],
    preferences: Preferences,
) -> list[Claimed | CommonGroundError | None]:
    """Claim the next turn of each bearer, with its Idempotency-Key if it has one; answers by place."""
    limit = record_limit(preferences)
    claims = [ClaimRequest(ClaimNext(agent=bearer.agent), bearer, key, limit) for bearer, key in wanted]
    outcomes = await resolve_all(await kernel.operations.claim_many(project_id, claims))
    for claimed in outcomes:
        if isinstance(claimed, Claimed):
            notify_claimed(kernel, claimed)
    return outcomes


def _key_at(item: ClaimItem, nth: int) -> str | None:
    """Return the key of an item's nth claim; the first has the item's own key, as in the single route."""
    key = item.idempotency_key
    return key if key is None or nth == 0 else f"{key}#{nth}"


def _claims_of(
    kernel: Any, outcomes: list[Claimed | CommonGroundError | None], preferences: Preferences
) -> list[Any] | CommonGroundError:
    """Return the claims of one item, or the refusal if it got none."""
    claims = [claimed for claimed in outcomes if isinstance(claimed, Claimed)]
    refusals = [refusal for refusal in outcomes if isinstance(refusal, CommonGroundError)]
    if refusals and not claims:
        return refusals[0]
    return [represent(kernel, claimed, preferences) for claimed in claims]


async def renew_many(request: Request) -> Response:
    """Extend many leases; each item is answered as the single route would."""
    body = await read(request, RenewMany)
    project_id = path_id(request, "project_id")
    require_count(len(body.items))
    bearers = bearers_of(project_id, [(item.claim.agent, item.credential) for item in body.items], "claim")
    asked = [Fenced(item.claim, bearer, None) for item, bearer in authorized(body.items, bearers)]
    kernel = request.kernel
    renewed = await renew_claims(kernel.database, project_id, asked, lease=kernel.config.lease)
    return reply(answers_of(bearers, await resolve_all(renewed)))


_V = "/v3r1/projects/{project_id}"
routes: list[Operation] = [
    Operation(
        "POST",
        _V + "/agents/{agent_id}/claims:claim",
        claim,
        takes=ClaimNext,
        headers=("Prefer", "Idempotency-Key"),
        gives=ClaimedTurn | None,
    ),
    Operation("POST", _V + "/claims:renew", renew, takes=RenewClaim, gives=Renewal),
    Operation(
        "POST", _V + "/claims:reconcile-expired", reconcile_expired, takes=ReconcileExpired, gives=Reconciled
    ),
    Operation(
        "POST",
        _V + "/claims:claim-many",
        claim_many,
        takes=ClaimMany,
        headers=("Prefer",),
        gives=ItemAnswers,
        identified_by=(),
    ),
    Operation(
        "POST",
        _V + "/claims:renew-many",
        renew_many,
        takes=RenewMany,
        gives=ItemAnswers,
        identified_by=(),
    ),
]
