"""Claiming an agent's next turn."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
from attrs import frozen

from cgworker.errors import ConflictError, KernelOverloaded
from cgworker.kernel.store.annotations import annotate
from cgworker.kernel.store.claims.reconcile import RECONCILE_AGENT
from cgworker.kernel.store.ids import digest, hash_of, new_claim_token, turn_id
from cgworker.kernel.store.postgres import Connection, Database, Row
from cgworker.wire.claims import ClaimNext
from cgworker.wire.converter import unstructure
from cgworker.wire.refs import ClaimToken

_ROUTE = "claims:claim"


@frozen
class Claimed:
    """A claim just given, with the turn's row as it is now."""

    token: ClaimToken
    row: Row


# The oldest queued turn and a slot of its agent, or nothing. Turns are locked before agents, everywhere.
# An ended claim of the agent comes first (decision 2): then nothing is claimed here, `is_blocked` says so,
# and the caller reconciles and claims in one transaction. A second claim under one Idempotency-Key violates
# its primary key, which undoes the whole statement.
CLAIM_NEXT = """
with ended as (
    select exists (
        select from cg_turns
        where project_id = $1 and target_agent_id = $2 and state = 'running' and claim_expires_at <= now()
    ) as is_blocked
), next as (
    select project_id, turn_number
    from cg_turns
    where project_id = $1 and target_agent_id = $2 and state = 'queued'
        and not (select is_blocked from ended)
    order by turn_number
    limit 1
    for update skip locked
), slot as (
    update cg_agents a
    set held_count = a.held_count + 1
    from next n
    where a.project_id = n.project_id and a.agent_id = $2
        and a.enabled and a.accepts_work and a.held_count < a.capacity
    returning a.project_id
), claimed as (
    update cg_turns t
    set state = 'running', claim_agent_id = $2, claim_token_hash = $3,
        claim_expires_at = clock_timestamp() + $4, settled_token_hash = null, settled_digest = null,
        updated_at = clock_timestamp()
    from next n
    join slot s on s.project_id = n.project_id
    where t.project_id = n.project_id and t.turn_number = n.turn_number
    returning t.*
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, agent_id, turn_number)
    select project_id, 'turn.claimed', 'turn', 'T-' || turn_number, 'agent', $2,
        cause_kind, cause_id, $5::json, target_agent_id, turn_number
    from claimed
), remembered as (
    insert into cg_idempotency_keys (project_id, agent_id, route, key, body_digest, turn_number, answer)
    select project_id, $2, 'claims:claim', $6, $7, turn_number, to_json(encode($3, 'hex'))
    from claimed
    where $6::text is not null
)
select e.is_blocked, clock_timestamp() as server_time, c.*
from ended e
left join claimed c on true
"""


async def claim_next(
    database: Database, request: ClaimNext, *, lease: timedelta, key: str | None = None
) -> Claimed | None:
    """Claim the agent's oldest queued turn, or None if it has none or no slot for it.

    Args:
        key: an Idempotency-Key; a repeat gives the same turn with a fresh token (decision 4).

    Raises:
        ConflictError: the key came with another body before.
    """
    try:
        return await _claim(database, request, lease, key)
    except asyncpg.UniqueViolationError:
        assert key is not None
        return await _repeat(database, request, lease, key)


async def _claim(database: Database, request: ClaimNext, lease: timedelta, key: str | None) -> Claimed | None:
    token = new_claim_token()
    agent = request.agent
    values = (
        agent.project_id,
        agent.agent_id,
        hash_of(token),
        lease,
        annotate(request.meta),
        key,
        digest(unstructure(request)) if key is not None else None,
    )
    row = await database.fetchrow(CLAIM_NEXT, *values)
    assert row is not None
    if row["is_blocked"]:

        async def reconcile_and_claim(connection: Connection) -> Row | None:
            await connection.execute(RECONCILE_AGENT, agent.project_id, agent.agent_id, annotate())
            return await connection.fetchrow(CLAIM_NEXT, *values)

        row = await database.transact(reconcile_and_claim)
        assert row is not None
    if row["turn_number"] is None:
        return None
    return Claimed(_token_of(row, token), row)


def _token_of(row: Row, token: str) -> ClaimToken:
    return ClaimToken(
        project_id=row["project_id"],
        turn_id=turn_id(row["turn_number"]),
        agent_id=row["claim_agent_id"],
        token=token,
        expires_at=row["claim_expires_at"],
    )


# ---------------------------------------------------------------- repeats


FIND_REPEAT = """
select body_digest from cg_idempotency_keys
where project_id = $1 and agent_id = $2 and route = $3 and key = $4
"""

# The fresh token voids the first, in case both answers arrive; the event was written by the first.
RECLAIM = """
with claimed as (
    update cg_turns t
    set claim_token_hash = $5, claim_expires_at = clock_timestamp() + $6, updated_at = clock_timestamp()
    from cg_idempotency_keys k
    where k.project_id = $1 and k.agent_id = $2 and k.route = $3 and k.key = $4
        and t.project_id = k.project_id and t.turn_number = k.turn_number
        and t.state = 'running' and t.claim_agent_id = $2
        and t.claim_token_hash = decode(k.answer #>> '{}', 'hex')
    returning t.*
), remembered as (
    update cg_idempotency_keys k
    set answer = to_json(encode($5, 'hex')), created_at = now()
    from claimed c
    where k.project_id = $1 and k.agent_id = $2 and k.route = $3 and k.key = $4
)
select clock_timestamp() as server_time, c.* from claimed c
"""

FORGET_KEY = """
delete from cg_idempotency_keys
where project_id = $1 and agent_id = $2 and route = $3 and key = $4 and body_digest = $5
"""


async def _repeat(database: Database, request: ClaimNext, lease: timedelta, key: str) -> Claimed | None:
    """The turn of the first claim, if it still runs under it; else the key is free again."""
    scope = (request.agent.project_id, request.agent.agent_id, _ROUTE, key)
    body = digest(unstructure(request))
    first = await database.fetchval(FIND_REPEAT, *scope)
    if first is not None and first != body:
        raise ConflictError("idempotency key was used with another body")
    token = new_claim_token()
    row = await database.fetchrow(RECLAIM, *scope, hash_of(token), lease)
    if row is not None:
        return Claimed(_token_of(row, token), row)
    await database.execute(FORGET_KEY, *scope, body)
    try:
        return await _claim(database, request, lease, key)
    except asyncpg.UniqueViolationError as raced:
        raise KernelOverloaded("the same claim is being made just now", retry_after_seconds=0.1) from raced
