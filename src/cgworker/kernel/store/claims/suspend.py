"""Putting a turn aside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cgworker.errors import CommonGroundError
from cgworker.kernel.store.annotations import annotate, with_remarks
from cgworker.kernel.store.batch import by_place, columns, in_rounds
from cgworker.kernel.store.claims.fence import check_claim, find_claim, is_repeat, shown, undecided
from cgworker.kernel.store.claims.finish import Settled
from cgworker.kernel.store.ids import digest
from cgworker.kernel.store.postgres import Database
from cgworker.wire.refs import ClaimToken
from cgworker.wire.turns import Suspend

SUSPEND_TURNS = """
with sent as (
    select *
    from unnest($2::bigint[], $3::text[], $4::bytea[], $5::bytea[], $6::text[]) with ordinality
        as s (turn_number, agent_id, token_hash, content_digest, annotations, place)
), held as (
    select s.place, s.turn_number
    from (select * from sent order by turn_number) s
    cross join lateral (
        select
        from cg_turns
        where project_id = $1 and turn_number = s.turn_number
            and claim_agent_id = s.agent_id and claim_token_hash = s.token_hash
            and claim_expires_at > clock_timestamp()
        for no key update
    ) t
), suspended as (
    update cg_turns t
    set state = 'suspended', updated_at = clock_timestamp(), attempt = 1,
        claim_agent_id = null, claim_token_hash = null, claim_expires_at = null,
        settled_token_hash = s.token_hash, settled_digest = s.content_digest
    from held h
    join sent s on s.place = h.place
    where t.project_id = $1 and t.turn_number = h.turn_number
    returning s.place, t.*
), holders as (
    select h.agent_id
    from (select distinct target_agent_id as agent_id from suspended order by 1) h
    cross join lateral (
        select from cg_agents where project_id = $1 and agent_id = h.agent_id for no key update
    ) a
), freed as (
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
select place from suspended
"""


async def suspend_turns(
    database: Database, project_id: str, suspends: Sequence[tuple[ClaimToken, Suspend]]
) -> list[Settled | CommonGroundError]:
    """Put the turns aside; a repeat with the same token, reason and note changes nothing (decision 4).

    Returns:
        By place, what became of it, or NotFoundError or FencingError: the claim is not the current one, or
        its lease has ended.
    """

    async def suspend(some: list[tuple[ClaimToken, Suspend]]) -> list[Settled | CommonGroundError]:
        rows = await database.fetch(
            SUSPEND_TURNS, project_id, *columns(_row_of(claim, suspend) for claim, suspend in some)
        )
        suspended = {row["place"]: Settled() for row in rows}
        return await by_place(some, suspended, lambda item: _repeat_or_refuse(database, *item))

    return await in_rounds(suspends, lambda item: [item[0].turn_id], suspend)


def _row_of(claim: ClaimToken, suspend: Suspend) -> tuple[Any, ...]:
    said = annotate(with_remarks(suspend.meta, reason=suspend.reason, note=suspend.note))
    return *shown(claim), _digest_of(suspend), said


def _digest_of(suspend: Suspend) -> bytes:
    return digest(["suspended", suspend.reason, suspend.note])


async def _repeat_or_refuse(database: Database, claim: ClaimToken, suspend: Suspend) -> Settled:
    row = await find_claim(database, claim)
    if is_repeat(row, claim, _digest_of(suspend)):
        return Settled()
    check_claim(row, claim)
    raise undecided("suspend")
