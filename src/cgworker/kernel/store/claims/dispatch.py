"""Dispatch turns: on the requester's own authority (a root) or under a parent's claim (a child)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from cgworker.errors import InvalidRequest
from cgworker.kernel.store.annotations import annotate, annotate_record
from cgworker.kernel.store.batch import Answers, by_place, columns, in_rounds
from cgworker.kernel.store.callers import PresentedCredential, touch_used
from cgworker.kernel.store.claims.fence import claim_columns
from cgworker.kernel.store.claims.hand_over import WaitingClaim, hand_over
from cgworker.kernel.store.claims.replay import (
    Dispatched,
    DispatchRequest,
    Spawn,
    places_in_keys,
    replay,
)
from cgworker.kernel.store.ids import (
    keyed_box_id,
    new_box_id,
    new_record_id,
)
from cgworker.kernel.store.postgres.database import Connection, Database, Row
from cgworker.wire.converter import dumps
from cgworker.wire.refs import TurnRef
from cgworker.wire.turns import Dispatch

# Creates the turns of new dispatches. A replay, or a dispatch that is refused, gets no row.
#
# Locks are taken in this order: the parents' turns, the dispatch keys, and last the project's row, since it
# stays locked until the commit. A replay still checks the parent's fence and extends its lease.
DISPATCH_TURNS = """
with sent as (
    -- Dispatches with a valid credential, to a target that has the capability that the kind needs.
    select s.*, who.is_touch_due, 'turn.dispatch.any' = any (who.grants) as may_dispatch_any
    from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::bigint[], $12::text[], $13::bytea[], $14::text[], $15::text[], $16::text[],
            $17::text[], $18::text[], $19::bytea[], $20::smallint[], $21::text[], $22::text[],
            $23::int[], $24::timestamptz[], $25::float8[]) with ordinality
        as s (requester_id, target_id, turn_kind, spawn_key, cause_kind, cause_id, box_id,
            input, parent_number, parent_agent_id, parent_hash, record_id, card_id,
            spawn_annotations, record_annotations, credential_id, secret_hash,
            priority, serial_key, fairness_key, nth_of_key, not_before, delay_seconds, place)
    cross join lateral cg_callers($1, s.requester_id, s.credential_id, s.secret_hash) who
    cross join lateral (
        select capabilities from cg_agents where project_id = $1 and agent_id = s.target_id limit 1
    ) target
    where not starts_with(s.turn_kind, 'turn.') or s.turn_kind = any (target.capabilities)
), held as (
    -- The fence of children: lock the parent turns whose claim is the current one, in the order of numbers.
    select s.place, s.parent_number
    from (select * from sent where parent_number is not null order by parent_number) s
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
    -- Extend the parents' leases.
    update cg_turns
    set claim_expires_at = cg_clock() + $2, updated_at = cg_clock()
    where project_id = $1 and turn_number = any (array(select parent_number from held))
), spawned as (
    -- Take the dispatch keys of roots and fenced children. A key that is taken already means a replay.
    insert into cg_spawns (project_id, spawn_key)
    select $1, s.spawn_key
    from sent s
    left join held h on h.place = s.place
    where s.parent_number is null or h.place is not null
    order by s.spawn_key
    on conflict do nothing
    returning spawn_key
), counted as (
    -- Count the new turns on the project, which reserves their numbers.
    update cg_projects
    set turn_count = turn_count + (select count(*) from spawned)
    where project_id = $1 and exists (select from spawned)
    returning turn_count
), numbered as (
    -- Number the new turns in the order of the dispatches, and see when each may begin.
    select s.*, c.turn_count - row_number() over (order by s.place desc) + 1 as turn_number,
        b.begins_at, case when b.begins_at > cg_now() then b.begins_at end as due_at
    from spawned
    join sent s on s.spawn_key = spawned.spawn_key
    cross join counted c
    cross join lateral (
        select coalesce(cg_now() + make_interval(secs => s.delay_seconds), s.not_before) as begins_at
    ) b
), placed as (
    -- Where the fair order of each agent, priority and key goes on. It is looked up once for all turns of the
    -- statement: a later lookup would walk past those that have been added by then.
    select n.*, max(case when n.nth_here = 1 then (
            select f.fair_number from cg_last_place($1, n.target_id, n.priority, n.fairness_key) f
        ) end) over (partition by n.target_id, n.priority, n.fairness_key) as last_place
    from (
        select *, row_number() over (partition by target_id, priority, fairness_key) as nth_here
        from numbered
    ) n
), born as (
    -- The turns, queued. A turn waits if an earlier queued one has its serial key, here or in the table.
    -- Turns that wait for nothing get their place in the fair order.
    insert into cg_turns (project_id, turn_number, target_agent_id, requested_by_agent_id, turn_kind,
        cause_kind, cause_id, parent_number, spawn_key, state, record_count, created_at, updated_at,
        not_before, delay_seconds, priority, serial_key, fairness_key, due_at, waits_for_key, fair_number)
    select $1, n.turn_number, n.target_id, n.requester_id, n.turn_kind,
        n.cause_kind, n.cause_id, n.parent_number, n.spawn_key, 'queued', 1, cg_clock(), cg_clock(),
        n.begins_at, n.delay_seconds, n.priority, n.serial_key, n.fairness_key, n.due_at, w.waits_for_key,
        case when n.due_at is null and not w.waits_for_key then n.last_place + n.nth_of_key - 1 else 0 end
    from placed n
    cross join lateral (
        select case when n.serial_key is null or n.due_at is not null then false
            else cg_must_wait($1, n.target_id, n.serial_key, n.turn_number) or (
                select e.place
                from numbered e
                where e.target_id = n.target_id and e.serial_key = n.serial_key and e.place < n.place
                    and e.due_at is null
                limit 1
            ) is not null
        end as waits_for_key
        offset 0
    ) w
), recorded as (
    -- The first record of each, its input.
    insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id,
        metadata, payload, created_at)
    select $1, turn_number, 1, record_id, 'bootstrap', box_id, card_id,
        '{"cg_role":"bootstrap_bundle","cg_source":"CommonGround"}', input::json, cg_clock()
    from numbered
), logged as (
    -- Two events for each turn; the first one also names the parent.
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, payload_box_id, agent_id, turn_number, parent_number)
    select $1, e.event_type, 'turn', 'T-' || n.turn_number, 'agent', n.requester_id,
        n.cause_kind, n.cause_id,
        case e.step when 1 then n.spawn_annotations::json else n.record_annotations::json end,
        n.box_id, n.target_id, n.turn_number,
        case e.step when 1 then n.parent_number end
    from numbered n
    cross join (values (1, 'turn.spawned'), (2, 'turn.bootstrap_recorded')) e (step, event_type)
    order by n.place, e.step
)
select place, is_touch_due, turn_number, extract(epoch from due_at - cg_clock())::float8 as due_in_seconds
from numbered
"""


# DISPATCH_TURNS for requesters that present no credential: they only have to be enabled.
DISPATCH_ON_BEHALF = DISPATCH_TURNS.replace(
    "cross join lateral cg_callers($1, s.requester_id, s.credential_id, s.secret_hash) who",
    """cross join lateral (
        select grants, false as is_touch_due
        from cg_agents
        where project_id = $1 and agent_id = s.requester_id and enabled
        limit 1
    ) who""",
)


async def dispatch_turns(
    database: Database,
    project_id: str,
    dispatches: Sequence[DispatchRequest],
    *,
    lease: timedelta,
    waiting: WaitingClaim | None = None,
) -> Answers[Dispatched]:
    """Dispatch turns, or find the turns that earlier dispatches with the same keys created.

    Args:
        database: the kernel's database.
        project_id: the project of all the turns.
        dispatches: the requests.
        lease: the length of a lease, for parents and for a claim that gets a turn.
        waiting: a waiting claim of the target agent, which may get the turn at once; only for a single
            dispatch.

    Returns:
        By place, the turn or the refusal: UnauthorizedError, ForbiddenError, NotFoundError, ConflictError or
        FencingError, in the order of wire 6.4 and 8.3.
    """

    async def insert(some: list[DispatchRequest]) -> Answers[Dispatched]:
        if len(some) == 1:
            sent = [row_of(some[0])]
        else:
            sent = [row_of(item, nth) for item, nth in zip(some, places_in_keys(some), strict=True)]
        found = None if waiting is None else await _hand_over(database, project_id, lease, sent[0], waiting)
        if found is None:
            found = await database.fetch(DISPATCH_TURNS, project_id, lease, *columns(sent))
        return await answers_of(database, project_id, some, found)

    return await in_rounds(dispatches, lambda item: [item.request.dispatch_key], insert)


async def answers_of(
    database: Database, project_id: str, sent: list[DispatchRequest], found: list[Row]
) -> Answers[Dispatched]:
    """Return the answers to dispatches from the rows that DISPATCH_TURNS gave for them, by place."""
    rows = {row["place"]: row for row in found}
    await touch_used(database, [item.bearer for item in sent], rows)
    born = {place: _dispatched_of(project_id, row) for place, row in rows.items()}
    return by_place(sent, born, lambda item: replay(database, item))


async def dispatch_on_behalf(
    connection: Connection, project_id: str, dispatches: Sequence[Dispatch], *, lease: timedelta
) -> dict[int, int]:
    """Dispatch turns on behalf of their requesters, within a transaction.

    Returns:
        By place, the numbers of the turns; none for a key that is taken, or a dispatch that is refused.
    """
    nobody = [DispatchRequest(each, PresentedCredential(each.requested_by, "", b"")) for each in dispatches]
    rows = await connection.fetch(DISPATCH_ON_BEHALF, project_id, lease, *columns(map(row_of, nobody)))
    return {row["place"]: row["turn_number"] for row in rows}


async def _hand_over(
    database: Database, project_id: str, lease: timedelta, sent: tuple[Any, ...], waiting: WaitingClaim
) -> list[Row] | None:
    """Dispatch a turn to a waiting claim; return None if the database cannot hold one of the values.

    The value may be the claim's, which must not refuse the dispatch: the caller then dispatches without it.
    """
    with suppress(InvalidRequest):
        alone_and_at_once = sent[:-3]  # a turn that may have to wait for its instant is not offered
        return await hand_over(database, project_id, lease, alone_and_at_once, waiting)
    return None


def _dispatched_of(project_id: str, row: Row) -> Dispatched:
    is_handed_over = row.get("state") == "running"
    turn = TurnRef(project_id=project_id, turn_id=f"T-{row['turn_number']}")
    return Dispatched(turn, True, is_handed_over, row.get("due_in_seconds"))


def row_of(item: DispatchRequest, nth_of_key: int = 1) -> tuple[Any, ...]:
    """Return the columns of a dispatch for DISPATCH_TURNS.

    Args:
        item: the dispatch.
        nth_of_key: its place among those of the statement that have its fairness key (see `places_in_keys`).
    """
    request, order = item.request, item.order
    spawn = Spawn.of(request)
    parent = (None, None, None) if spawn.parent is None else claim_columns(spawn.parent)
    facts = {
        "requested_by": request.requested_by.agent_id,
        "turn_kind": request.turn_kind,
        "spawn_entrypoint": spawn.entrypoint,
    }
    return (
        request.requested_by.agent_id,
        request.target_agent.agent_id,
        request.turn_kind,
        request.dispatch_key,
        spawn.cause_kind,
        spawn.cause_id,
        keyed_box_id(request.requested_by.project_id, spawn.write_key),
        dumps(request.input).decode(),
        *parent,
        new_record_id(),
        new_box_id(),
        annotate(request.meta, **facts),
        annotate_record(None, "bootstrap"),
        item.bearer.credential_id,
        item.bearer.secret_hash,
        order.priority,
        order.serial_key,
        order.fairness_key,
        nth_of_key,
        order.not_before,
        order.delay_seconds,
    )
