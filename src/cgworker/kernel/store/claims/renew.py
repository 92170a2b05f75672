"""Renew claims: extend their leases."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cgworker.kernel.store.batch import Answers, by_place, columns, in_rounds, rows_by_place
from cgworker.kernel.store.callers import touch_used
from cgworker.kernel.store.claims.fence import Fenced, claim_columns, raise_refusal
from cgworker.kernel.store.postgres.database import Database, Row
from cgworker.wire.claims import Renewal

# Extends the leases of current claims. A claim that is not the current one, or has ended, gets no row.
RENEW_CLAIMS = """
with sent as (
    -- Claims with a valid credential.
    select s.*, who.is_touch_due
    from unnest($3::bigint[], $4::text[], $5::bytea[], $6::text[], $7::bytea[]) with ordinality
        as s (turn_number, agent_id, token_hash, credential_id, secret_hash, place)
    cross join lateral cg_callers($1, s.agent_id, s.credential_id, s.secret_hash) who
), held as (
    -- The fence: lock the turns whose claim is the current one, in the order of their numbers.
    select s.place, s.turn_number, s.is_touch_due
    from (select * from sent order by turn_number) s
    cross join lateral (
        select
        from cg_turns
        where project_id = $1 and turn_number = s.turn_number
            and claim_agent_id = s.agent_id and claim_token_hash = s.token_hash
            and claim_expires_at > cg_clock()
        for no key update
    ) t
)
update cg_turns t
set claim_expires_at = cg_clock() + $2, updated_at = cg_clock()
from held h
where t.project_id = $1 and t.turn_number = any (array(select turn_number from held))
    and t.turn_number = h.turn_number
returning h.place, h.is_touch_due, cg_clock() as server_time, t.claim_expires_at,
    t.stop_requested, t.record_count
"""


async def renew_claims(
    database: Database, project_id: str, asked: Sequence[Fenced[None]], *, lease: timedelta
) -> Answers[Renewal]:
    """Renew the claims.

    Args:
        database: the kernel's database.
        project_id: the project of all the claims.
        asked: the claims to renew.
        lease: the length of the new leases, from now.

    Returns:
        By place, the renewal or the refusal: UnauthorizedError or ForbiddenError for the credential,
        NotFoundError if there is no such turn, FencingError if the claim is not the current one or its lease
        has ended.
    """

    async def renew(some: list[Fenced[None]]) -> Answers[Renewal]:
        sent = columns((*claim_columns(item.claim), *item.bearer.row()) for item in some)
        rows = rows_by_place(await database.fetch(RENEW_CLAIMS, project_id, lease, *sent))
        await touch_used(database, [item.bearer for item in some], rows)
        renewed = {place: _renewal_of(row, lease) for place, row in rows.items()}
        return by_place(some, renewed, lambda item: raise_refusal(database, item))

    return await in_rounds(asked, lambda item: [item.claim.turn_id], renew)


def _renewal_of(row: Row, lease: timedelta) -> Renewal:
    return Renewal(
        server_time=row["server_time"],
        expires_at=row["claim_expires_at"],
        recommended_interval_seconds=max(1.0, lease.total_seconds() / 2),
        stop_requested=row["stop_requested"],
        record_count=row["record_count"],
    )
