"""Finish turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from cgworker.errors import InvalidRequest
from cgworker.kernel.store.annotations import annotate, annotate_record
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
from cgworker.kernel.store.claims.shared_sql import close_turn, final_record, log_end
from cgworker.kernel.store.ids import digest, new_box_id, new_record_id, turn_ref
from cgworker.kernel.store.postgres.database import Database, Row
from cgworker.kernel.store.record_rules import check_singleton, payload_fault
from cgworker.kernel.store.records import card_metadata
from cgworker.lifecycle import TurnOutcome
from cgworker.wire.absent import ABSENT
from cgworker.wire.converter import dumps
from cgworker.wire.refs import TurnRef
from cgworker.wire.turns import Finish

_OUTCOMES = frozenset(TurnOutcome)
_PAYLOAD = 10  # its place in `row_of`

# Closes the turns whose claim is the current one. A finish that is refused, or a repeat, gets no row.
#
# `record_id` is null for a finish without a payload; then no record is added and the turn has no final role.
# The payloads themselves ($12) are read where they are inserted: each step that had them would copy them.
FINISH_TURNS = """
with sent as (
    -- Finishes with a valid credential.
    select s.*, who.is_touch_due
    from unnest($2::bigint[], $3::text[], $4::bytea[], $5::text[], $6::bytea[], $7::text[], $8::text[],
            $9::text[], $10::text[], $11::text[], $13::text[], $14::text[], $15::text[],
            $16::bytea[]) with ordinality
        as s (turn_number, agent_id, token_hash, outcome, content_digest, role, record_id, box_id, card_id,
            metadata, record_annotations, annotations, credential_id, secret_hash, place)
    cross join lateral cg_callers($1, s.agent_id, s.credential_id, s.secret_hash) who
), held as (
    -- The fence: lock the turns whose claim is the current one, in the order of their numbers. A second
    -- record of the role that a turn may have once is refused here.
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
    where s.record_id is null or s.role <> 'provision_launch_started' or (  -- not EXISTS: see __init__.py
            select r.turn_number
            from cg_records r
            where r.project_id = $1 and r.turn_number = s.turn_number
                and r.role = 'provision_launch_started'
            limit 1
        ) is null
), closed as (
    -- Close them: end the claim, keep what identifies a repeat, and count the final record.
    update cg_turns t
    set state = 'closed', outcome = s.outcome, closed_at = cg_clock(), updated_at = cg_clock(),
        claim_agent_id = null, claim_token_hash = null, claim_expires_at = null,
        settled_token_hash = s.token_hash, settled_digest = s.content_digest,
        record_count = t.record_count + (s.record_id is not null)::int,
        final_record_role = case when s.record_id is not null then s.role end,
        final_seq = case when s.record_id is not null then t.record_count + 1 end
    from held h
    join sent s on s.place = h.place
    where t.project_id = $1 and t.turn_number = any (array(select turn_number from held))
        and t.turn_number = h.turn_number
    returning s.place, s.is_touch_due, t.*
), holders as (
    -- Lock the agents, in the order of their ids, so that two statements cannot deadlock.
    select h.agent_id
    from (select distinct target_agent_id as agent_id from closed order by 1) h
    cross join lateral (
        select from cg_agents where project_id = $1 and agent_id = h.agent_id for no key update
    ) a
), freed as (
    -- Free their slots.
    update cg_agents a
    set held_count = a.held_count - (select count(*) from closed c where c.target_agent_id = a.agent_id)
    where a.project_id = $1 and a.agent_id = any (array(select agent_id from holders))
), recorded as (
    -- Add the final records.
    insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id,
        metadata, payload, created_at)
    select $1, c.turn_number, c.final_seq, s.record_id, s.role, s.box_id, s.card_id,
        s.metadata::json, ($12::json[])[s.place], cg_clock()
    from closed c
    join sent s on s.place = c.place
    where s.record_id is not null
), logged as (
    -- One event for the record, if there is one, and one for the end, which also names the parent.
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, payload_box_id, agent_id, turn_number, parent_number)
    select $1, e.event_type, 'turn', 'T-' || c.turn_number, 'agent', s.agent_id,
        c.cause_kind, c.cause_id,
        case e.step when 1 then s.record_annotations::json else s.annotations::json end,
        case e.step when 1 then s.box_id end,
        c.target_agent_id, c.turn_number,
        case e.step when 2 then c.parent_number end
    from closed c
    join sent s on s.place = c.place
    join (values (1, 'turn.progress_appended'), (2, 'turn.finished')) e (step, event_type)
        on e.step = 2 or s.record_id is not null
    order by c.place, e.step
)
-- The next turn of a serial key is ready now.
select place, is_touch_due, parent_number,
    case when serial_key is not null then cg_free_key($1, target_agent_id, serial_key) end
from closed
"""

# FINISH_TURNS for one turn, with plain values instead of arrays.
FINISH_TURN = f"""
with closed as (
{close_turn()}), freed as (
    update cg_agents
    set held_count = held_count - 1
    where project_id = $1 and agent_id = (select agent_id from closed)
), recorded as (
{final_record()}), logged as (
{log_end()})
select 1 as place, is_touch_due, parent_number,
    case when serial_key is not null then cg_free_key($1, agent_id, serial_key) end
from closed
"""


@frozen
class Settled:
    """A turn is settled, by this call or by an earlier one with the same content.

    Attributes:
        parent: the parent turn, if this call closed one of its children.
        due_seconds: after how many seconds the kernel queues the turn again, if this call suspended it so.
    """

    parent: TurnRef | None = None
    due_seconds: float | None = None


async def finish_turns(
    database: Database, project_id: str, finishes: Sequence[Fenced[Finish]]
) -> Answers[Settled]:
    """Close the turns; a repeat with the same token and content changes nothing (difference 4).

    Returns:
        By place, the settled turn or the refusal: UnauthorizedError or ForbiddenError for the credential,
        NotFoundError if there is no such turn, FencingError if the claim is not the current one or its lease
        has ended, ConflictError if the turn has a record of the final role and may have only one.
    """

    async def finish(some: list[Fenced[Finish]]) -> Answers[Settled]:
        rows = rows_by_place(await _finish(database, project_id, [*map(row_of, some)]))
        await touch_used(database, [item.bearer for item in some], rows)
        closed = {place: Settled(parent_of(project_id, row["parent_number"])) for place, row in rows.items()}
        return by_place(some, closed, lambda item: _repeat_or_refuse(database, item))

    return await in_rounds(finishes, lambda item: [item.claim.turn_id], finish)


async def _finish(database: Database, project_id: str, sent: Sequence[tuple[Any, ...]]) -> list[Row]:
    if len(sent) == 1:
        return await database.fetch_retrying_duplicates(FINISH_TURN, project_id, *alone(sent[0]))
    return await database.fetch_retrying_duplicates(FINISH_TURNS, project_id, *columns(sent))


def check_outcome(finish: Finish) -> None:
    """Raise InvalidRequest unless the outcome is one that a turn can have."""
    if finish.outcome not in _OUTCOMES:
        msg = "Input should be 'succeeded', 'failed' or 'stopped'"
        raise InvalidRequest([{"type": "enum", "loc": ["body", "outcome"], "msg": msg}])


def row_of(item: Fenced[Finish]) -> tuple[Any, ...]:
    """Return the columns of a finish for FINISH_TURNS."""
    finish = item.what
    number, agent_id, token_hash = claim_columns(item.claim)
    role, payload = finish.final_record_role, finish.final_payload
    has_payload = payload is not ABSENT
    return (
        0
        if has_payload and payload_fault(role, payload)
        else number,  # 0 finds no turn: the record cannot be added
        agent_id,
        token_hash,
        finish.outcome,
        _digest_of(finish),
        role,
        new_record_id() if has_payload else None,
        new_box_id(),
        new_box_id(),
        card_metadata(role),
        dumps(payload) if has_payload else None,
        annotate_record(finish.meta, role),
        annotate(finish.meta),
        *item.bearer.row(),
    )


def alone(sent: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the columns of a finish for a statement of its own; the payload stays bytes only in an array."""
    return *sent[:_PAYLOAD], [sent[_PAYLOAD]], *sent[_PAYLOAD + 1 :]


def _digest_of(finish: Finish) -> bytes:
    has_payload = finish.final_payload is not ABSENT
    return digest(
        [finish.outcome, *([finish.final_payload, finish.final_record_role] if has_payload else [])]
    )


def parent_of(project_id: str, number: int | None) -> TurnRef | None:
    """Return the reference of a closed turn's parent, by its number; None if it has none."""
    return None if number is None else turn_ref(project_id, number)


# ---------------------------------------------------------------- repeats and refusals


async def _repeat_or_refuse(database: Database, item: Fenced[Finish]) -> Settled:
    claim, finish = item.claim, item.what
    await require_caller(database, item.bearer)
    row = await find_claim(database, claim)
    if is_repeat(row, claim, _digest_of(finish)):
        return Settled()
    check_claim(row, claim)
    if finish.final_payload is not ABSENT:
        await check_singleton(database, claim.turn, finish.final_record_role, finish.final_payload)
    raise retry_later("finish")
