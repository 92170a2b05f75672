"""Claim an agent's next turn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from attrs import evolve, field, frozen

from cgworker.kernel.store.annotations import annotate
from cgworker.kernel.store.batch import Answer, Answers, Deferred, columns, in_rounds
from cgworker.kernel.store.callers import require_caller, touch_used
from cgworker.kernel.store.claims.fence import retry_later
from cgworker.kernel.store.claims.reclaim import ClaimRequest, reclaim
from cgworker.kernel.store.claims.reconcile import RECONCILE_AGENT
from cgworker.kernel.store.claims.shared_sql import (
    claim_turn,
    is_blocked,
    next_turn,
    ready_turns,
    records_of_claimed,
)
from cgworker.kernel.store.due import WAKE_AGENT
from cgworker.kernel.store.ids import hash_of, new_claim_token, turn_id
from cgworker.kernel.store.postgres.database import Connection, Database, Row
from cgworker.kernel.store.records import StoredRecord, list_records, stored_records
from cgworker.wire.refs import ClaimToken

MAX_AHEAD_SECONDS = 0.02
"""How long before the instant from which it holds a claim may be made, at most (due_claim.py)."""

# Claims for each agent its next turns (difference 29): as many as it asks for and has free slots for.
#
# A request whose Idempotency-Key is in use, or whose credential is invalid, gets no row. A request that gets
# no turn gets one row without a turn; a claimed turn yields one row per requested record.
#
# If a lease of the agent has ended (difference 2), or one of its turns is due and not ready yet, nothing is
# claimed and `is_blocked` is true: the caller then wakes, reconciles and claims in one transaction.
#
# Every statement locks turns before agents, so that no two can deadlock. On EXISTS, see `__init__.py`.
CLAIM_TURNS = f"""
with asked as (
    -- Requests with a valid credential and an unused Idempotency-Key; `nth` counts an agent's requests.
    select s.*, who.is_touch_due, row_number() over (partition by s.agent_id order by s.place) as nth
    from unnest($3::text[], $4::bytea[], $5::text[], $6::text[], $7::bytea[], $8::int[], $9::text[],
            $10::bytea[]) with ordinality
        as s (agent_id, token_hash, annotations, key, body_digest, record_limit, credential_id, secret_hash,
            place)
    cross join lateral cg_callers($1, s.agent_id, s.credential_id, s.secret_hash) who
    where (
        select false
        from cg_idempotency_keys k
        where k.project_id = $1 and k.agent_id = s.agent_id and k.route = 'claims:claim' and k.key = s.key
    ) is not false
), asking as (
    -- Each agent once. It is blocked while one of its running turns has a lease that has ended, or one of its
    -- queued turns is due that has no place among the ready ones yet.
    select a.agent_id, a.asked_count, {is_blocked("a.agent_id")} as is_blocked
    from (select agent_id, count(*) as asked_count from asked group by agent_id) a
), queued as (
    -- Lock each agent's next turns, at most one per request; skip those that are locked already. Of a serial
    -- key it is the first queued one, and only while none runs.
    select a.agent_id, q.turn_number, q.priority, q.fair_number
    from asking a
    cross join lateral (
{ready_turns("a.asked_count")}    ) q
    where not a.is_blocked
), next as (
    -- Number the locked turns of each agent, to pair them with its requests.
    select agent_id, turn_number, row_number() over (
            partition by agent_id order by priority desc, fair_number, turn_number) as nth
    from queued
), slots as (
    -- Lock the agents, in the order of their ids, and see how many slots they have left.
    select n.agent_id, least(n.found_count, a.free_count) as taken_count
    from (select agent_id, count(*) as found_count from next group by agent_id order by agent_id) n
    cross join lateral (
        select capacity - held_count as free_count
        from cg_agents
        where project_id = $1 and agent_id = n.agent_id
            and enabled and accepts_work and held_count < capacity
        for no key update
    ) a
), taken as (
    -- Take the slots.
    update cg_agents a
    set held_count = a.held_count + (select taken_count from slots s where s.agent_id = a.agent_id)
    where a.project_id = $1 and a.agent_id = any (array(select agent_id from slots))
), claimed as (
    -- Give an agent's nth turn to its nth request, as far as the slots go.
    update cg_turns t
    set state = 'running', claim_agent_id = a.agent_id, claim_token_hash = a.token_hash,
        claim_expires_at = cg_clock() + $2, settled_token_hash = null, settled_digest = null,
        fair_number = 0, updated_at = cg_clock()
    from asked a
    join slots s on s.agent_id = a.agent_id
    join next n on n.agent_id = a.agent_id and n.nth = a.nth
    where n.nth <= s.taken_count and t.project_id = $1
        and t.turn_number = any (array(select turn_number from next)) and t.turn_number = n.turn_number
    returning a.place, t.*
), logged as (
    -- One event per claim.
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, agent_id, turn_number)
    select $1, 'turn.claimed', 'turn', 'T-' || c.turn_number, 'agent', a.agent_id,
        c.cause_kind, c.cause_id, a.annotations::json, c.target_agent_id, c.turn_number
    from claimed c
    join asked a on a.place = c.place
    order by c.place
), remembered as (
    -- Note which claim the Idempotency-Key stands for, so that a repeat finds it.
    insert into cg_idempotency_keys (project_id, agent_id, route, key, body_digest, turn_number, answer)
    select $1, a.agent_id, 'claims:claim', a.key, a.body_digest, c.turn_number,
        to_json(encode(a.token_hash, 'hex'))
    from claimed c
    join asked a on a.place = c.place
    where a.key is not null
)
-- One row per request, or per record of its turn if it asks for records.
select a.place as asked_place, a.is_touch_due, g.is_blocked, cg_clock() as server_time, c.*, r.*
from asked a
join asking g on g.agent_id = a.agent_id
left join claimed c on c.place = a.place
{records_of_claimed("a.record_limit")}order by a.place, r.turn_seq
"""

# CLAIM_TURNS for one request, with plain values instead of arrays. The slot may have gone since the statement
# began: then the turn is not claimed.
CLAIM_TURN = f"""
with asked as (
    select $3::text as agent_id, who.is_touch_due, {is_blocked("$3")} as is_blocked
    from cg_callers($1, $3, $9, $10) who
    where (
        select k.turn_number
        from cg_idempotency_keys k
        where k.project_id = $1 and k.agent_id = $3 and k.route = 'claims:claim' and k.key = $6
    ) is null
), next as (
{next_turn("asked", "held_count < capacity and not asked.is_blocked")}), taken as (
    update cg_agents
    set held_count = held_count + 1
    where project_id = $1 and agent_id = $3 and (select turn_number from next) is not null
        and enabled and accepts_work and held_count < capacity
    returning agent_id
), claimed as (
{claim_turn("select turn_number from next, taken", agent="$3", token_hash="$4", lease="$2")}), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, agent_id, turn_number)
    select $1, 'turn.claimed', 'turn', 'T-' || turn_number, 'agent', $3,
        cause_kind, cause_id, $5::text::json, target_agent_id, turn_number
    from claimed
), remembered as (
    insert into cg_idempotency_keys (project_id, agent_id, route, key, body_digest, turn_number, answer)
    select $1, $3, 'claims:claim', $6, $7, turn_number, to_json(encode($4, 'hex'))
    from claimed
    where $6::text is not null
)
select 1 as asked_place, a.is_touch_due, a.is_blocked, cg_clock() as server_time, c.*, r.*
from asked a
left join claimed c on true
{records_of_claimed("$8")}"""


@frozen
class Claimed:
    """A new claim.

    Attributes:
        token: the claim token.
        row: the turn's row after the claim.
        records: the requested records.
        gave_back: whether expired leases of the agent were reconciled first; there may then be more work.
        has_all_records: whether `records` has every requested record; false if they exceed a page's size.
        holds_from: the time of the event loop before which it must not be answered (due_claim.py).
    """

    token: ClaimToken
    row: Row
    records: tuple[StoredRecord, ...] = ()
    gave_back: bool = False
    has_all_records: bool = True
    holds_from: float = 0.0


async def claim_turns(
    database: Database, project_id: str, claims: Sequence[ClaimRequest], *, lease: timedelta
) -> Answers[Claimed | None]:
    """Claim the agents' next turns, one turn for each request.

    Args:
        database: the kernel's database.
        project_id: the project of all the agents.
        claims: the requests.
        lease: the length of each lease.

    Returns:
        By place, the claim, or None if the agent has no turn that can be claimed, or no free slot. A refusal
        is returned, not raised: UnauthorizedError or ForbiddenError for the credential, ConflictError if the
        Idempotency-Key was used with another body.
    """

    async def claim(some: list[ClaimRequest]) -> Answers[Claimed | None]:
        tries = [ClaimTry(item) for item in some]
        rows: dict[int, list[Row]] = {}
        for row in await _claim(database, project_id, lease, [one.row() for one in tries]):
            rows.setdefault(row["asked_place"], []).append(row)
        await touch_used(database, [item.bearer for item in some], {at: row[0] for at, row in rows.items()})
        return [
            _answer_of(database, one, rows.get(place, []), lease) for place, one in enumerate(tries, start=1)
        ]

    return await in_rounds(claims, ClaimRequest.conflict_keys, claim)


async def _claim(
    database: Database, project_id: str, lease: timedelta, sent: Sequence[tuple[Any, ...]]
) -> list[Row]:
    if len(sent) == 1:
        return await database.fetch_retrying_duplicates(CLAIM_TURN, project_id, lease, *sent[0])
    return await database.fetch_retrying_duplicates(CLAIM_TURNS, project_id, lease, *columns(sent))


@frozen
class ClaimTry:
    """A claim request with the token that it gets if it succeeds."""

    claim: ClaimRequest
    token: str = field(factory=new_claim_token, repr=False)

    def row(self) -> tuple[Any, ...]:
        """Return the request's row for CLAIM_TURNS, without its place."""
        claim = self.claim
        return (claim.request.agent.agent_id, *self.own_row(), *claim.bearer.row())

    def own_row(self) -> tuple[Any, ...]:
        """Return the columns of its row without those of the caller."""
        claim = self.claim
        return (
            hash_of(self.token),
            annotate(claim.request.meta),
            claim.key,
            None if claim.key is None else claim.body_digest(),
            claim.record_limit,
        )

    def claimed(self, rows: list[Row], *, gave_back: bool = False) -> Claimed | None:
        """Return the claim that rows of CLAIM_TURNS describe: at least one row, one for each record."""
        row = rows[0]
        if row["turn_number"] is None:
            return None
        token = ClaimToken(
            project_id=row["project_id"],
            turn_id=turn_id(row["turn_number"]),
            agent_id=row["claim_agent_id"],
            token=self.token,
            expires_at=row["claim_expires_at"],
        )
        records = stored_records(token.project_id, row["turn_number"], rows) if row["turn_seq"] else ()
        return Claimed(token, row, records, gave_back)


def _answer_of(
    database: Database, one: ClaimTry, rows: list[Row], lease: timedelta
) -> Answer[Claimed | None]:
    if not rows:
        return Deferred(partial(_refuse_or_repeat, database, one, lease))
    if rows[0]["is_blocked"]:
        return Deferred(partial(_reconcile_and_claim, database, one, lease))
    claimed = one.claimed(rows)
    return claimed if _is_whole(one, claimed) else Deferred(partial(with_all_records, database, one, claimed))


async def _refuse_or_repeat(database: Database, one: ClaimTry, lease: timedelta) -> Claimed | None:
    await require_caller(database, one.claim.bearer)
    rows = await _repeat(database, one, lease)
    if rows[0]["is_blocked"]:
        return await _reconcile_and_claim(database, one, lease)
    return await with_all_records(database, one, one.claimed(rows))


def _is_whole(one: ClaimTry, claimed: Claimed | None) -> bool:
    """Whether the claim has every requested record.

    Some may be missing: a statement sees only the records that were committed before it began.
    """
    if claimed is None:
        return True
    record_count: int = claimed.row["record_count"]
    return len(claimed.records) >= min(one.claim.record_limit, record_count)


async def with_all_records(database: Database, one: ClaimTry, claimed: Claimed | None) -> Claimed | None:
    """Return the claim with every record that was requested; read them if its statement missed some."""
    if claimed is None or _is_whole(one, claimed):
        return claimed
    wanted = one.claim.record_limit
    records, _, is_large = await list_records(database, claimed.token.turn, after_turn_seq=0, limit=wanted)
    return evolve(claimed, records=records, has_all_records=not is_large)


async def _reconcile_and_claim(database: Database, one: ClaimTry, lease: timedelta) -> Claimed | None:
    agent = one.claim.request.agent

    async def both(connection: Connection) -> list[Row]:
        await connection.execute(WAKE_AGENT, agent.project_id, annotate(), agent.agent_id)
        await connection.execute(RECONCILE_AGENT, agent.project_id, agent.agent_id, annotate())
        return await connection.fetch(CLAIM_TURN, agent.project_id, lease, *one.row())

    rows = await database.transact(both, retries_duplicates=True)
    while _decided(rows)[0]["is_blocked"]:  # meanwhile another lease ended, or turn became due
        rows = await database.transact(both, retries_duplicates=True)
    return await with_all_records(database, one, one.claimed(rows, gave_back=True))


def _decided(rows: list[Row]) -> list[Row]:
    if not rows:
        raise retry_later("claim")
    return rows


# ---------------------------------------------------------------- repeats


async def _repeat(database: Database, one: ClaimTry, lease: timedelta) -> list[Row]:
    """Repeat a claim: return its turn if that still runs under the first claim, else claim anew."""
    agent = one.claim.request.agent

    async def repeat(connection: Connection) -> list[Row]:
        if rows := await reclaim(connection, one.claim, hash_of(one.token), lease):
            return rows
        return await connection.fetch(CLAIM_TURN, agent.project_id, lease, *one.row())

    rows = _decided(await database.transact(repeat, retries_duplicates=True))
    if rows[0]["turn_number"] is not None:
        early = (rows[0]["updated_at"] - rows[0]["server_time"]).total_seconds()
        if early > 0:
            await asyncio.sleep(min(early, MAX_AHEAD_SECONDS) + 0.001)  # a timer may be a moment too early
    return rows
