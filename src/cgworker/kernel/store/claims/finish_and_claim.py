"""Finish turns and claim their agents' next ones, in one statement with one commit.

A busy worker asks for both in one request. One after the other they are two statements with two commits,
check the credential twice, and change the agent's row twice. An item that has anything unusual about it is
left to the two operations by themselves.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from datetime import timedelta
from typing import Any

from attrs import frozen

from cgworker.errors import CommonGroundError
from cgworker.kernel.store.batch import Answers, columns, in_rounds
from cgworker.kernel.store.callers import touch_used
from cgworker.kernel.store.claims.claim import Claimed, ClaimTry, with_all_records
from cgworker.kernel.store.claims.fence import Fenced
from cgworker.kernel.store.claims.finish import Settled, alone, parent_of, row_of
from cgworker.kernel.store.claims.reclaim import ClaimRequest
from cgworker.kernel.store.claims.shared_sql import (
    claim_turn,
    close_turn,
    final_record,
    is_blocked,
    log_end,
    next_turn,
    ready_turns,
    records_of_claimed,
)
from cgworker.kernel.store.postgres.database import Database, Row
from cgworker.wire.turns import Finish

# FINISH_TURNS followed by CLAIM_TURNS, with the same names. An item gets no row, and nothing is done for it,
# if either would refuse it or need a second look: see `sent`, `asking` and `held`.
#
# A slot that is freed and taken again leaves the agent's row as it is. The payloads are $13.
FINISH_AND_CLAIM_TURNS = f"""
with sent as (
    -- Items with a valid credential and an unused Idempotency-Key.
    select s.*, who.is_touch_due
    from unnest($3::bigint[], $4::text[], $5::bytea[], $6::text[], $7::bytea[], $8::text[], $9::text[],
            $10::text[], $11::text[], $12::text[], $14::text[], $15::text[], $16::text[],
            $17::bytea[], $18::bytea[], $19::text[], $20::text[], $21::bytea[], $22::int[]) with ordinality
        as s (turn_number, agent_id, token_hash, outcome, content_digest, role, record_id, box_id, card_id,
            metadata, record_annotations, annotations, credential_id, secret_hash,
            next_hash, next_annotations, key, body_digest, record_limit, place)
    cross join lateral cg_callers($1, s.agent_id, s.credential_id, s.secret_hash) who
    where (
        select false
        from cg_idempotency_keys k
        where k.project_id = $1 and k.agent_id = s.agent_id and k.route = 'claims:claim' and k.key = s.key
    ) is not false
), asking as (
    -- The agents that are not blocked by a lease that has ended, or by a turn that is due.
    select a.agent_id
    from (select distinct agent_id from sent) a
    where (
        select false
        from cg_turns t
        where t.project_id = $1 and t.target_agent_id = a.agent_id
            and t.state = 'running' and t.claim_expires_at <= cg_now()
        limit 1
    ) is not false and (
        select false
        from cg_turns t
        where t.project_id = $1 and t.target_agent_id = a.agent_id
            and t.state = 'queued' and t.due_at <= cg_now()
        limit 1
    ) is not false
), held as (
    -- The fence. The end of a turn with a serial key makes another one ready, which a claim can only see
    -- afterwards.
    select s.*
    from (select * from sent where agent_id = any (array(select agent_id from asking)) order by turn_number) s
    cross join lateral (
        select
        from cg_turns
        where project_id = $1 and turn_number = s.turn_number
            and claim_agent_id = s.agent_id and claim_token_hash = s.token_hash
            and claim_expires_at > cg_clock() and serial_key is null
        for no key update
    ) t
    where s.record_id is null or s.role <> 'provision_launch_started' or (
            select r.turn_number
            from cg_records r
            where r.project_id = $1 and r.turn_number = s.turn_number
                and r.role = 'provision_launch_started'
            limit 1
        ) is null
), closed as (
    update cg_turns t
    set state = 'closed', outcome = h.outcome, closed_at = cg_clock(), updated_at = cg_clock(),
        claim_agent_id = null, claim_token_hash = null, claim_expires_at = null,
        settled_token_hash = h.token_hash, settled_digest = h.content_digest,
        record_count = t.record_count + (h.record_id is not null)::int,
        final_record_role = case when h.record_id is not null then h.role end,
        final_seq = case when h.record_id is not null then t.record_count + 1 end
    from held h
    where t.project_id = $1 and t.turn_number = any (array(select turn_number from held))
        and t.turn_number = h.turn_number
    returning h.*, t.cause_kind, t.cause_id, t.parent_number, t.final_seq
), freed as (
    -- How many slots of each agent are free now.
    select agent_id, count(*) as freed_count from closed group by agent_id
), queued as (
    -- Lock each agent's next turns, as a claim does.
    select a.agent_id, q.turn_number, q.priority, q.fair_number
    from freed a
    cross join lateral (
{ready_turns("a.freed_count")}    ) q
), next as (
    select agent_id, turn_number, row_number() over (
            partition by agent_id order by priority desc, fair_number, turn_number) as nth
    from queued
), slots as (
    -- Lock the agents, in the order of their ids, and see how many of the slots may be taken again.
    select f.agent_id, f.freed_count, case
            when a.enabled and a.accepts_work
            then greatest(0, least(f.found_count, a.free_count + f.freed_count))
            else 0
        end as taken_count
    from (
        select agent_id, freed_count,
            (select count(*) from next n where n.agent_id = freed.agent_id) as found_count
        from freed
        order by agent_id
    ) f
    cross join lateral (
        select enabled, accepts_work, capacity - held_count as free_count
        from cg_agents
        where project_id = $1 and agent_id = f.agent_id
        for no key update
    ) a
), counted as (
    update cg_agents a
    set held_count = a.held_count - (
        select freed_count - taken_count from slots s where s.agent_id = a.agent_id
    )
    where a.project_id = $1
        and a.agent_id = any (array(select agent_id from slots where taken_count <> freed_count))
), paired as materialized (
    -- Each end with the turn that follows it. PostgreSQL takes `closed` to be one row, and would read it anew
    -- for each turn. It can only hash a full join.
    select a.place, agent_id, a.key, a.body_digest, a.next_hash, a.next_annotations, nth, n.turn_number
    from (select *, row_number() over (partition by agent_id order by place) as nth from closed) a
    full join next n using (agent_id, nth)
), claimed as (
    update cg_turns t
    set state = 'running', claim_agent_id = p.agent_id, claim_token_hash = p.next_hash,
        claim_expires_at = cg_clock() + $2, settled_token_hash = null, settled_digest = null,
        fair_number = 0, updated_at = cg_clock()
    from paired p
    join slots s on s.agent_id = p.agent_id
    where p.nth <= s.taken_count and t.project_id = $1
        and t.turn_number = any (array(select turn_number from next)) and t.turn_number = p.turn_number
    returning p.place, p.key, p.body_digest, p.next_hash, p.next_annotations, t.*
), recorded as (
    insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id,
        metadata, payload, created_at)
    select $1, turn_number, final_seq, record_id, role, box_id, card_id,
        metadata::json, ($13::json[])[place], cg_clock()
    from closed
    where record_id is not null
), logged as (
    -- The events of the ends, and then those of the claims.
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, payload_box_id, agent_id, turn_number, parent_number)
    select $1, e.event_type, 'turn', 'T-' || e.turn_number, 'agent', e.agent_id,
        e.cause_kind, e.cause_id, e.annotations::json, e.box_id, e.agent_id, e.turn_number, e.parent_number
    from (
        select 'turn.progress_appended' as event_type, turn_number, agent_id, cause_kind, cause_id,
            record_annotations as annotations, box_id, null::bigint as parent_number, place, 1 as step
        from closed
        where record_id is not null
        union all
        select 'turn.finished', turn_number, agent_id, cause_kind, cause_id,
            annotations, null, parent_number, place, 2
        from closed
        union all
        select 'turn.claimed', turn_number, claim_agent_id, cause_kind, cause_id,
            next_annotations, null, null, place, 3
        from claimed
    ) e
    order by e.step = 3, e.place, e.step
), remembered as (
    insert into cg_idempotency_keys (project_id, agent_id, route, key, body_digest, turn_number, answer)
    select $1, claim_agent_id, 'claims:claim', key, body_digest, turn_number,
        to_json(encode(next_hash, 'hex'))
    from claimed
    where key is not null
)
-- One row per closed turn, or per record of the turn that is claimed in its place if records were asked for.
select z.place as asked_place, z.is_touch_due, z.parent_number as closed_parent, cg_clock() as server_time,
    c.*, r.*
from closed z
full join claimed c on c.place = z.place  -- `claimed` has no other places; it is full to be hashed, too
{records_of_claimed("z.record_limit")}order by z.place, r.turn_seq
"""

# What must hold of a turn `t` that is closed, so that its agent can claim in the same statement.
_CAN_CLAIM = f"""\
t.serial_key is null
        and (
            select k.turn_number
            from cg_idempotency_keys k
            where k.project_id = $1 and k.agent_id = $3 and k.route = 'claims:claim' and k.key = $19
        ) is null
        and not {is_blocked("$3")}"""

_EVENT_OF_CLAIM = """\
        union all
        select 'turn.claimed', claim_agent_id, turn_number, cause_kind, cause_id, $18, null, null
        from claimed
"""

# FINISH_AND_CLAIM_TURNS for one item. It takes plain values instead of arrays, and so has none of the sorts,
# hashes and window functions that take longer to set up than a turn takes to close and to claim.
FINISH_AND_CLAIM_TURN = f"""
with closed as (
{close_turn(_CAN_CLAIM)}), next as (
{next_turn("closed", "held_count <= capacity")}), freed as (
    update cg_agents
    set held_count = held_count - 1
    where project_id = $1 and agent_id = (select agent_id from closed)
        and (select turn_number from next) is null
), claimed as (
{claim_turn("select turn_number from next", agent="$3", token_hash="$17", lease="$22")}), recorded as (
{final_record()}), logged as (
{log_end(_EVENT_OF_CLAIM)}), remembered as (
    insert into cg_idempotency_keys (project_id, agent_id, route, key, body_digest, turn_number, answer)
    select $1, $3, 'claims:claim', $19, $20, turn_number, to_json(encode($17, 'hex'))
    from claimed
    where $19::text is not null
)
-- The joins are with one row, and leave the records in order.
select 1 as asked_place, z.is_touch_due, z.parent_number as closed_parent, cg_clock() as server_time,
    c.*, r.*
from closed z
left join claimed c on true
{records_of_claimed("$21")}"""


@frozen
class FinishAndClaim:
    """A finish, and a claim of the same agent for the slot that it frees."""

    finish: Fenced[Finish]
    claim: ClaimRequest

    def conflict_keys(self) -> Sequence[Hashable]:
        """Return the keys that no two items in one statement may share."""
        return (self.finish.claim.turn_id, *self.claim.conflict_keys())


@frozen
class FinishedAndClaimed:
    """The answers to both.

    Attributes:
        settled: the turn that was finished.
        claimed: the claim; None if the agent has no turn that can be claimed; an error if the records of the
            claimed turn could not be read.
    """

    settled: Settled
    claimed: Claimed | CommonGroundError | None


async def finish_and_claim_turns(
    database: Database, project_id: str, items: Sequence[FinishAndClaim], *, lease: timedelta
) -> list[FinishedAndClaimed | None]:
    """Finish turns and claim the next ones.

    Args:
        database: the kernel's database.
        project_id: the project of all the agents.
        items: the requests.
        lease: the length of each new lease.

    Returns:
        By place, both answers; None for an item that is to be finished, and then claimed, by itself: nothing
        was done for it, or it is not known what.
    """

    async def run(some: list[FinishAndClaim]) -> Answers[FinishedAndClaimed | None]:
        tries = [ClaimTry(item.claim) for item in some]
        sent = [(*row_of(item.finish), *one.own_row()) for item, one in zip(some, tries, strict=True)]
        rows: dict[int, list[Row]] = {}
        for row in await _finish_and_claim(database, project_id, sent, lease):
            rows.setdefault(row["asked_place"], []).append(row)
        bearers = [item.finish.bearer for item in some]
        await touch_used(database, bearers, {at: found[0] for at, found in rows.items()})
        return [
            await _answer_of(database, project_id, one, rows[at]) if at in rows else None
            for at, one in enumerate(tries, start=1)
        ]

    answers = await in_rounds(items, FinishAndClaim.conflict_keys, run)
    return [answer if isinstance(answer, FinishedAndClaimed) else None for answer in answers]


async def _finish_and_claim(
    database: Database, project_id: str, sent: Sequence[tuple[Any, ...]], lease: timedelta
) -> list[Row]:
    if len(sent) == 1:
        return await database.fetch_retrying_duplicates(
            FINISH_AND_CLAIM_TURN, project_id, *alone(sent[0]), lease
        )
    return await database.fetch_retrying_duplicates(FINISH_AND_CLAIM_TURNS, project_id, lease, *columns(sent))


async def _answer_of(
    database: Database, project_id: str, one: ClaimTry, rows: list[Row]
) -> FinishedAndClaimed:
    settled = Settled(parent_of(project_id, rows[0]["closed_parent"]))
    try:
        return FinishedAndClaimed(settled, await with_all_records(database, one, one.claimed(rows)))
    except CommonGroundError as trouble:
        return FinishedAndClaimed(settled, trouble)
