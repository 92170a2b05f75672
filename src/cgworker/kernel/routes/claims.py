"""Routes about claims (protocol.md 6.4, decisions 4, 7, 8, 9)."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice

from attrs import asdict
from starlette.requests import Request
from starlette.responses import Response

from cgworker.errors import InvalidRequest
from cgworker.kernel.access import authenticate
from cgworker.kernel.http import key_of, path_id, read, reply, require_same
from cgworker.kernel.operation import Operation
from cgworker.kernel.routes.items import answers_of, good_items, refusals_of, require_count
from cgworker.kernel.store.batch import only
from cgworker.kernel.store.claims.claim import Claim, Claimed, Outcome, claim_turns
from cgworker.kernel.store.claims.reconcile import reconcile_agent
from cgworker.kernel.store.claims.renew import renew_claims
from cgworker.kernel.store.records import list_first_records
from cgworker.kernel.store.turns import snapshot_of
from cgworker.kernel.waiting import Preferences, look_until
from cgworker.kernel.wakeups import turn_news, work_key
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
from cgworker.wire.records import TurnContext
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
    preferences = Preferences(request)
    wanted = [Claim(body, key_of(request))]
    (await authenticate(request)).require_is(body.agent)
    outcomes = await look_until(
        request,
        [work_key(body.agent)],
        lambda: _claim(request, project_id, wanted),
        is_news=lambda found: found != [None],
        wait_seconds=preferences.wait_seconds,
    )
    claimed = only(outcomes)
    if claimed is None:
        return reply(None, headers=preferences.applied())
    (shown,) = await _represent(request, [claimed], preferences)
    return reply(shown, headers=preferences.applied())


async def _claim(request: Request, project_id: str, claims: list[Claim]) -> list[Outcome]:
    kernel = request.app.state.kernel
    outcomes = await claim_turns(kernel.database, project_id, claims, lease=lease_of(request))
    for claimed in outcomes:
        if isinstance(claimed, Claimed):
            kernel.metrics.claims.inc()
            more_work = [work_key(claimed.token.agent)] if claimed.gave_back else []
            kernel.wakeups.wake(*turn_news(claimed.token.turn, claimed.token.agent), *more_work)
    return outcomes


async def _represent(request: Request, claims: list[Claimed], preferences: Preferences) -> list[ClaimToken]:
    """The claims as they are to be shown: with what a worker would ask for next, if it prefers that."""
    if not preferences.wants_representation:
        return [claimed.token for claimed in claims]
    turns = [claimed.token.turn for claimed in claims]
    records = await list_first_records(request.app.state.kernel.database, turns, limit=CONTEXT_RECORDS)
    lease_seconds = lease_of(request).total_seconds()
    return [
        ClaimedTurn(
            **asdict(claimed.token, recurse=False),
            context=TurnContext(turn=snapshot_of(claimed.row), semantic_items=records[claimed.token.turn]),
            lease_seconds=lease_seconds,
            server_time=claimed.row["server_time"],
            attempt=claimed.row["attempt"],
        )
        for claimed in claims
    ]


async def renew(request: Request) -> Response:
    """Extend the lease of a claim."""
    body = await read(request, RenewClaim)
    claim_project = body.claim.project_id
    require_same(claim_project, path_id(request, "project_id"), "claim project must match path project")
    (await authenticate(request)).require_is(body.claim.agent)
    database = request.app.state.kernel.database
    return reply(only(await renew_claims(database, claim_project, [body.claim], lease=lease_of(request))))


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
    given_back = await reconcile_agent(kernel.database, agent, body)
    for turn, _ in given_back:
        kernel.wakeups.wake(work_key(agent), *turn_news(turn, agent))
    return reply(Reconciled(scanned_count=len(given_back), reconciled_count=len(given_back)))


# ---------------------------------------------------------------- many in one request


async def claim_many(request: Request) -> Response:
    """Claim for many agents; each item is answered with a list of claims."""
    body = await read(request, ClaimMany)
    project_id = path_id(request, "project_id")
    preferences = Preferences(request)
    _check_limits(body)
    shown = [(item.agent, item.credential) for item in body.items]
    refusals = await refusals_of(request, project_id, shown, "agent")
    wanted = good_items(body.items, refusals)
    found = await look_until(
        request,
        [work_key(item.agent) for item in wanted],
        lambda: _claim_items(request, project_id, wanted, preferences),
        is_news=lambda claims: any(claims) or not wanted,
        wait_seconds=preferences.wait_seconds,
    )
    return reply(answers_of(refusals, found), headers=preferences.applied())


def _check_limits(body: ClaimMany) -> None:
    for place, item in enumerate(body.items):
        if item.limit < 1:
            msg = "Input should be greater than or equal to 1"
            loc = ["body", "items", place, "limit"]
            raise InvalidRequest([{"type": "greater_than_equal", "loc": loc, "msg": msg}])
    require_count(sum(item.limit for item in body.items))


async def _claim_items(
    request: Request, project_id: str, items: list[ClaimItem], preferences: Preferences
) -> list[list[ClaimToken]]:
    wanted = [Claim(ClaimNext(agent=item.agent)) for item in items for _ in range(item.limit)]
    outcomes = await _claim(request, project_id, wanted)
    shown = iter(await _represent(request, [c for c in outcomes if isinstance(c, Claimed)], preferences))
    claims = iter([next(shown) if isinstance(c, Claimed) else None for c in outcomes])
    return [[claim for claim in islice(claims, item.limit) if claim is not None] for item in items]


async def renew_many(request: Request) -> Response:
    """Extend many leases; each item is answered as the single route would."""
    body = await read(request, RenewMany)
    project_id = path_id(request, "project_id")
    require_count(len(body.items))
    shown = [(item.claim.agent, item.credential) for item in body.items]
    refusals = await refusals_of(request, project_id, shown, "claim")
    claims = [item.claim for item in good_items(body.items, refusals)]
    database = request.app.state.kernel.database
    renewed = await renew_claims(database, project_id, claims, lease=lease_of(request))
    return reply(answers_of(refusals, renewed))


def lease_of(request: Request) -> timedelta:
    """How long a lease is here."""
    return timedelta(seconds=request.app.state.kernel.config.claim_timeout_seconds)


_V = "/v3r1/projects/{project_id}"
routes = [
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
