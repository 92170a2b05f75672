"""Hand a turn over: dispatch it to an agent whose claim is waiting, and claim it, in one statement.

Without the hand-over, the waiting claim is woken and runs a statement of its own. That costs a second
commit, during which an idle worker waits. It is still what happens if the hand-over is not possible.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from attrs import field, frozen

from cgworker.kernel.store.claims.claim import Claimed, ClaimTry
from cgworker.kernel.store.claims.reclaim import ClaimRequest
from cgworker.kernel.store.postgres.database import Database, Row

# DISPATCH_TURNS for one turn, followed by CLAIM_TURNS for one claim, with the same names. It takes plain
# values instead of arrays, which halves its cost.
#
# The turn is queued instead of handed over if the claim cannot have it: see the step `handed`.
HAND_OVER_TURN = """
with sent as (
    -- The dispatch, if its credential is valid and the target has the capability that the kind needs.
    select s.*, who.is_touch_due, 'turn.dispatch.any' = any (who.grants) as may_dispatch_any
    from (values ($3::text, $4::text, $5::text, $6::text, $7::text, $8::text, $9::text, $10::text,
            $11::bigint, $12::text, $13::bytea, $14::text, $15::text, $16::text, $17::text, $18::text,
            $19::bytea, $20::smallint, $21::text, $22::text))
        as s (requester_id, target_id, turn_kind, spawn_key, cause_kind, cause_id, box_id, input,
            parent_number, parent_agent_id, parent_hash, record_id, card_id, spawn_annotations,
            record_annotations, credential_id, secret_hash, priority, serial_key, fairness_key)
    cross join lateral cg_callers($1, s.requester_id, s.credential_id, s.secret_hash) who
    cross join lateral (
        select capabilities from cg_agents where project_id = $1 and agent_id = s.target_id limit 1
    ) target
    where not starts_with(s.turn_kind, 'turn.') or s.turn_kind = any (target.capabilities)
), held as (
    -- A child's fence: lock the parent turn if the parent's claim is the current one.
    select s.parent_number
    from sent s
    cross join lateral (
        select
        from cg_turns
        where project_id = $1 and turn_number = s.parent_number
            and claim_agent_id = s.parent_agent_id and claim_token_hash = s.parent_hash
            and claim_expires_at > cg_clock()
            and (claim_agent_id = s.requester_id or s.may_dispatch_any)
        for no key update
    ) t
), extended as (
    -- Extend the parent's lease.
    update cg_turns
    set claim_expires_at = cg_clock() + $2, updated_at = cg_clock()
    where project_id = $1 and turn_number = (select parent_number from held)
), spawned as (
    -- Take the dispatch key. If it is taken already, nothing below happens: the caller looks for a replay.
    insert into cg_spawns (project_id, spawn_key)
    select $1, spawn_key
    from sent
    where parent_number is null or parent_number = (select parent_number from held)
    on conflict do nothing
    returning spawn_key
), counted as (
    -- Number the turn. The project's row comes last of the locks, since it stays locked until the commit.
    update cg_projects
    set turn_count = turn_count + 1
    where project_id = $1 and exists (select from spawned)
    returning turn_count as turn_number
), handed as (
    -- The waiting claim, if it may have the turn: its credential is valid, its agent has a free slot, and its
    -- Idempotency-Key is unused. No turn of the serial key runs. No other turn may be passed over: no
    -- turn of the agent is ready or due, none has a lease that has ended and must be reconciled first, and no
    -- other dispatch has numbered a turn of the project since this statement began, because this statement
    -- cannot see that turn. An agent that is locked is skipped: a dispatch does not wait for it.
    select a.*
    from (values ($23::text, $24::bytea, $25::text, $26::text, $27::bytea, $28::int, $29::text, $30::bytea))
        as a (agent_id, token_hash, annotations, key, body_digest, record_limit, credential_id, secret_hash)
    cross join lateral cg_callers($1, a.agent_id, a.credential_id, a.secret_hash) who
    cross join lateral (
        select
        from cg_agents
        where project_id = $1 and agent_id = a.agent_id
            and enabled and accepts_work and held_count < capacity
        for no key update skip locked
    ) slot
    where (select turn_count from cg_projects where project_id = $1)
            = (select turn_number - 1 from counted)
        and (
            select turn_number
            from cg_idempotency_keys
            where project_id = $1 and agent_id = a.agent_id and route = 'claims:claim' and key = a.key
        ) is null and (
            select turn_number
            from cg_turns
            where project_id = $1 and target_agent_id = a.agent_id
                and cg_is_ready(state, due_at, waits_for_key)
            limit 1
        ) is null and (
            select turn_number
            from cg_turns
            where project_id = $1 and target_agent_id = a.agent_id
                and state = 'queued' and due_at <= cg_now()
            order by due_at
            limit 1
        ) is null
        and ($21::text is null or cg_state_of_key($1, a.agent_id, $21) = 'free')
        and (
            select turn_number
            from cg_turns
            where project_id = $1 and target_agent_id = a.agent_id and state = 'running'
                and claim_expires_at <= cg_now()
            order by claim_expires_at
            limit 1
        ) is null
), taken as (
    -- Take the agent's slot.
    update cg_agents
    set held_count = held_count + 1
    where project_id = $1 and agent_id = (select agent_id from handed)
), born as (
    -- The turn: running under the claim if it is handed over, else queued.
    insert into cg_turns (project_id, turn_number, target_agent_id, requested_by_agent_id, turn_kind,
        cause_kind, cause_id, parent_number, spawn_key, state, claim_agent_id, claim_token_hash,
        claim_expires_at, record_count, created_at, updated_at,
        priority, serial_key, fairness_key, waits_for_key, fair_number)
    select $1, c.turn_number, s.target_id, s.requester_id, s.turn_kind,
        s.cause_kind, s.cause_id, s.parent_number, s.spawn_key,
        case when h.agent_id is null then 'queued' else 'running' end, h.agent_id, h.token_hash,
        case when h.agent_id is not null then cg_clock() + $2 end, 1,
        cg_clock(), cg_clock(),
        s.priority, s.serial_key, s.fairness_key, w.waits_for_key, coalesce(f.fair_number, 0)
    from counted c
    cross join sent s
    left join handed h on true
    cross join lateral (
        select h.agent_id is null and s.serial_key is not null
            and cg_must_wait($1, s.target_id, s.serial_key, c.turn_number) as waits_for_key
        offset 0
    ) w
    left join lateral cg_last_place($1, s.target_id, s.priority, s.fairness_key) f
        on h.agent_id is null and not w.waits_for_key
    returning *
), recorded as (
    -- Its first record, the input.
    insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id,
        metadata, payload, created_at)
    select $1, c.turn_number, 1, s.record_id, 'bootstrap', s.box_id, s.card_id,
        '{"cg_role":"bootstrap_bundle","cg_source":"CommonGround"}', s.input::json, cg_clock()
    from counted c
    cross join sent s
    returning turn_seq, record_id, role, box_id, card_id, metadata, payload, created_at as recorded_at
), logged as (
    -- Its events; the third only if it is handed over.
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, payload_box_id, agent_id, turn_number, parent_number)
    select $1, e.event_type, 'turn', 'T-' || c.turn_number, 'agent', e.actor_id,
        s.cause_kind, s.cause_id, e.annotations::json, e.box_id, s.target_id, c.turn_number, e.parent_number
    from counted c
    cross join sent s
    left join handed h on true
    cross join lateral (values
        (1, 'turn.spawned', s.requester_id, s.spawn_annotations, s.box_id, s.parent_number),
        (2, 'turn.bootstrap_recorded', s.requester_id, s.record_annotations, s.box_id, null),
        (3, 'turn.claimed', h.agent_id, h.annotations, null, null)
    ) e (step, event_type, actor_id, annotations, box_id, parent_number)
    where e.actor_id is not null
    order by e.step
), remembered as (
    -- Note which claim the Idempotency-Key stands for, so that a repeat finds it.
    insert into cg_idempotency_keys (project_id, agent_id, route, key, body_digest, turn_number, answer)
    select $1, h.agent_id, 'claims:claim', h.key, h.body_digest, c.turn_number,
        to_json(encode(h.token_hash, 'hex'))
    from handed h
    cross join counted c
    where h.key is not null
)
-- The turn's row, with the input record if the claim asked for records.
select 1 as place, s.is_touch_due, cg_clock() as server_time, b.*, r.*
from born b
cross join sent s
left join handed h on true
left join recorded r on h.record_limit > 0
"""


@frozen(eq=False)
class WaitingClaim:
    """A claim that waits for a turn.

    Attributes:
        claim: the claim request.
        give: answers the request with the claim that it got.
        woken: set when something has changed for its agent, or its client has gone.
    """

    claim: ClaimRequest
    give: Callable[[Claimed], None]
    woken: asyncio.Event = field(factory=asyncio.Event)


async def hand_over(
    database: Database, project_id: str, lease: timedelta, dispatch: Sequence[Any], waiting: WaitingClaim
) -> list[Row]:
    """Dispatch a turn, and give it to the waiting claim if possible.

    Args:
        database: the kernel's database.
        project_id: the project.
        lease: the length of the claim's lease, and of the extended lease of a parent.
        dispatch: the dispatch's row for DISPATCH_TURNS, without its instants: the turn has none.
        waiting: a waiting claim of the target agent.

    Returns:
        The rows of DISPATCH_TURNS, with the turn's `state`: "running" if it has been handed over.

    Raises:
        InvalidRequest: the database cannot hold a value of the dispatch or of the claim.
        KernelOverloaded: the database is unavailable.
    """
    one = ClaimTry(waiting.claim)
    rows = await database.fetch_retrying_duplicates(HAND_OVER_TURN, project_id, lease, *dispatch, *one.row())
    if rows and rows[0]["state"] == "running" and (claimed := one.claimed(rows)):
        waiting.give(claimed)
    return rows
