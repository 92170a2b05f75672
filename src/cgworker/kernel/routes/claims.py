"""Routes about claims (protocol.md 6.4, decisions 4, 7, 8, 9)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cgworker.kernel.access import authenticate, identify
from cgworker.kernel.http import answer_item, key_of, path_id, read, reply, require_same
from cgworker.kernel.store.claims.claim import Claimed, claim_next
from cgworker.kernel.store.claims.reconcile import reconcile_agent
from cgworker.kernel.store.claims.renew import renew_claim
from cgworker.kernel.store.records import list_records
from cgworker.kernel.store.turns import snapshot_of
from cgworker.kernel.waiting import Preferences, look_until
from cgworker.kernel.wakeups import feed_key, turn_key, work_key
from cgworker.wire.claims import (
    ClaimedTurn,
    ClaimItem,
    ClaimMany,
    ClaimNext,
    Reconciled,
    ReconcileExpired,
    RenewClaim,
    RenewItem,
    RenewMany,
)
from cgworker.wire.records import TurnContext
from cgworker.wire.turns import ItemAnswer, ItemAnswers

CONTEXT_RECORDS = 100
"""How many records a claim brings along; the same as the first page of a context."""


async def claim(request: Request) -> Response:
    """Claim the agent's oldest queued turn; null when there is none."""
    body = await read(request, ClaimNext)
    project_id, agent_id = path_id(request, "project_id"), path_id(request, "agent_id")
    require_same(body.agent.project_id, project_id, "agent project must match path project")
    require_same(body.agent.agent_id, agent_id, "path agent_id must match request agent")
    preferences = Preferences(request)
    key = key_of(request)
    (await authenticate(request)).require_is(body.agent)
    claimed = await look_until(
        request,
        [work_key(body.agent)],
        lambda: _claim(request, body, key),
        is_news=lambda found: found is not None,
        wait_seconds=preferences.wait_seconds,
    )
    if claimed is None:
        return reply(None, headers=preferences.applied())
    if preferences.wants_representation:
        return reply(await _with_context(request, claimed), headers=preferences.applied())
    return reply(claimed.token, headers=preferences.applied())


async def _claim(request: Request, body: ClaimNext, key: str | None) -> Claimed | None:
    kernel = request.app.state.kernel
    claimed = await claim_next(kernel.database, body, lease=lease_of(request), key=key)
    if claimed is not None:
        kernel.wakeups.wake(turn_key(claimed.token.turn), feed_key(claimed.token.project_id))
    return claimed


async def _with_context(request: Request, claimed: Claimed) -> ClaimedTurn:
    token, row = claimed.token, claimed.row
    items = await list_records(
        request.app.state.kernel.database, token.turn, after_turn_seq=0, limit=CONTEXT_RECORDS
    )
    return ClaimedTurn(
        project_id=token.project_id,
        turn_id=token.turn_id,
        agent_id=token.agent_id,
        token=token.token,
        expires_at=token.expires_at,
        context=TurnContext(turn=snapshot_of(row), semantic_items=items),
        lease_seconds=lease_of(request).total_seconds(),
        server_time=row["server_time"],
        attempt=row["attempt"],
    )


async def renew(request: Request) -> Response:
    """Extend the lease of a claim."""
    body = await read(request, RenewClaim)
    claim_project = body.claim.project_id
    require_same(claim_project, path_id(request, "project_id"), "claim project must match path project")
    (await authenticate(request)).require_is(body.claim.agent)
    return reply(await renew_claim(request.app.state.kernel.database, body.claim, lease=lease_of(request)))


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
    kernel = request.app.state.kernel
    count = await reconcile_agent(kernel.database, agent, body)
    if count:
        kernel.wakeups.wake(work_key(agent), feed_key(agent.project_id))
    return reply(Reconciled(scanned_count=count, reconciled_count=count))


# ---------------------------------------------------------------- many in one request


async def claim_many(request: Request) -> Response:
    """Claims for many agents; each item is answered with a list of claims."""
    body = await read(request, ClaimMany)
    project_id = path_id(request, "project_id")
    preferences = Preferences(request)
    agents = [work_key(item.agent) for item in body.items]
    answers = await look_until(
        request,
        agents,
        lambda: _claim_items(request, project_id, body.items),
        is_news=lambda found: any(answer.body for answer in found),
        wait_seconds=preferences.wait_seconds,
    )
    return reply(ItemAnswers(items=answers), headers=preferences.applied())


async def _claim_items(
    request: Request, project_id: str, items: tuple[ClaimItem, ...]
) -> tuple[ItemAnswer, ...]:
    claims = [answer_item(_claim_item(request, project_id, item)) for item in items]
    return tuple(await asyncio.gather(*claims))


async def _claim_item(request: Request, project_id: str, item: ClaimItem) -> list[Any]:
    require_same(item.agent.project_id, project_id, "agent project must match path project")
    await identify(request.app.state.kernel.database, item.agent, item.credential)
    claimed: list[Any] = []
    while len(claimed) < item.limit:
        found = await _claim(request, ClaimNext(agent=item.agent), None)
        if found is None:
            break
        claimed.append(await _with_context(request, found))
    return claimed


async def renew_many(request: Request) -> Response:
    """Extend many leases; each item is answered as the single route would."""
    body = await read(request, RenewMany)
    project_id = path_id(request, "project_id")
    renewals = [answer_item(_renew_item(request, project_id, item)) for item in body.items]
    return reply(ItemAnswers(items=tuple(await asyncio.gather(*renewals))))


async def _renew_item(request: Request, project_id: str, item: RenewItem) -> Any:
    require_same(item.claim.project_id, project_id, "claim project must match path project")
    database = request.app.state.kernel.database
    await identify(database, item.claim.agent, item.credential)
    return await renew_claim(database, item.claim, lease=lease_of(request))


def lease_of(request: Request) -> timedelta:
    """How long a lease is here."""
    return timedelta(seconds=request.app.state.kernel.config.claim_timeout_seconds)


_V = "/v3r1/projects/{project_id}"
routes = [
    Route(_V + "/agents/{agent_id}/claims:claim", claim, methods=["POST"]),
    Route(_V + "/claims:renew", renew, methods=["POST"]),
    Route(_V + "/claims:reconcile-expired", reconcile_expired, methods=["POST"]),
    Route(_V + "/claims:claim-many", claim_many, methods=["POST"]),
    Route(_V + "/claims:renew-many", renew_many, methods=["POST"]),
]
