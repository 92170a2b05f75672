"""Suspend turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cgworker.kernel.store.annotations import annotate, with_remarks
from cgworker.kernel.store.batch import Answers, by_place, columns, in_rounds, rows_by_place
from cgworker.kernel.store.callers import require_caller, touch_used
from cgworker.kernel.store.claims.fence import (
    Fenced,
    check_claim,
    claim_columns,
    find_claim,
    is_repeat,
    retry_later,
)
from cgworker.kernel.store.claims.finish import Settled
from cgworker.kernel.store.ids import digest
from cgworker.kernel.store.postgres.database import Database
from cgworker.wire.absent import ABSENT
from cgworker.wire.turns import Suspend

# Suspends the turns whose claim is the current one. A suspend that is refused, or a repeat, gets no row.
SUSPEND_TURNS = """
with sent as (
    -- Suspends with a valid credential.
    select s.*, who.is_touch_due
    from unnest($2::bigint[], $3::text[], $4::bytea[], $5::bytea[], $6::text[], $7::text[],
            $8::bytea[], $9::float8[]) with ordinality
        as s (turn_number, agent_id, token_hash, content_digest, annotations, credential_id, secret_hash,
            resume_after_seconds, place)
    cross join lateral cg_callers($1, s.agent_id, s.credential_id, s.secret_hash) who
), held as (
    -- The fence: lock the turns whose claim is the current one, in the order of their numbers.
    select s.place, s.turn_number
    from (select * from sent order by turn_number) s
    cross join lateral (
        select
        from cg_turns
        where project_id = $1 and turn_number = s.turn_number
            and claim_agent_id = s.agent_id and claim_token_hash = s.token_hash
            and claim_expires_at > cg_clock()
        for no key update
    ) t
), suspended as (
    -- Suspend them: end the claim, keep what identifies a repeat, and note when the kernel is to queue
    -- them: at once, if they are to be stopped.
    update cg_turns t
    set state = 'suspended', updated_at = cg_clock(), attempt = 1,
        claim_agent_id = null, claim_token_hash = null, claim_expires_at = null,
        settled_token_hash = s.token_hash, settled_digest = s.content_digest,
        due_at = cg_clock() + make_interval(secs =>
            s.resume_after_seconds * case when t.stop_requested then 0 else 1 end)
    from held h
    join sent s on s.place = h.place
    where t.project_id = $1 and t.turn_number = any (array(select turn_number from held))
        and t.turn_number = h.turn_number
    returning s.place, s.is_touch_due, t.*
), holders as (
    -- Lock the agents, in the order of their ids, so that two statements cannot deadlock.
    select h.agent_id
    from (select distinct target_agent_id as agent_id from suspended order by 1) h
    cross join lateral (
        select from cg_agents where project_id = $1 and agent_id = h.agent_id for no key update
    ) a
), freed as (
    -- Free their slots.
    update cg_agents a
    set held_count = a.held_count - (select count(*) from suspended c where c.target_agent_id = a.agent_id)
    where a.project_id = $1 and a.agent_id = any (array(select agent_id from holders))
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, agent_id, turn_number)
    select $1, 'turn.suspended', 'turn', 'T-' || c.turn_number, 'agent', s.agent_id,
        c.cause_kind, c.cause_id, s.annotations::json, c.target_agent_id, c.turn_number
    from suspended c
    join sent s on s.place = c.place
    order by c.place
)
-- The next turn of a serial key is ready now.
select place, is_touch_due, extract(epoch from due_at - cg_clock())::float8 as due_seconds,
    case when serial_key is not null then cg_free_key($1, target_agent_id, serial_key) end
from suspended
"""


async def suspend_turns(
    database: Database, project_id: str, suspends: Sequence[Fenced[Suspend]]
) -> Answers[Settled]:
    """Suspend the turns; a repeat with the same token, reason, note and delay changes nothing (difference 4).

    Returns:
        By place, the settled turn or the refusal: UnauthorizedError or ForbiddenError for the credential,
        NotFoundError if there is no such turn, FencingError if the claim is not the current one or its lease
        has ended.
    """

    async def suspend(some: list[Fenced[Suspend]]) -> Answers[Settled]:
        rows = rows_by_place(await database.fetch(SUSPEND_TURNS, project_id, *columns(map(_row_of, some))))
        await touch_used(database, [item.bearer for item in some], rows)
        suspended = {place: Settled(due_seconds=row["due_seconds"]) for place, row in rows.items()}
        return by_place(some, suspended, lambda item: _repeat_or_refuse(database, item))

    return await in_rounds(suspends, lambda item: [item.claim.turn_id], suspend)


def _row_of(item: Fenced[Suspend]) -> tuple[Any, ...]:
    suspend = item.what
    facts = (
        {}
        if suspend.resume_after_seconds is ABSENT
        else {"resume_after_seconds": suspend.resume_after_seconds}
    )
    said = annotate(with_remarks(suspend.meta, reason=suspend.reason, note=suspend.note), **facts)
    delay = _delay_of(suspend)
    return *claim_columns(item.claim), _digest_of(suspend), said, *item.bearer.row(), delay


def _delay_of(suspend: Suspend) -> float | None:
    return suspend.resume_after_seconds if suspend.resume_after_seconds is not ABSENT else None


def _digest_of(suspend: Suspend) -> bytes:
    delay = _delay_of(suspend)
    return digest(["suspended", suspend.reason, suspend.note, *([] if delay is None else [delay])])


async def _repeat_or_refuse(database: Database, item: Fenced[Suspend]) -> Settled:
    claim = item.claim
    await require_caller(database, item.bearer)
    row = await find_claim(database, claim)
    if is_repeat(row, claim, _digest_of(item.what)):
        return Settled()
    check_claim(row, claim)
    raise retry_later("suspend")
