"""Closing a turn."""

from __future__ import annotations

import asyncpg

from cgworker.errors import InvalidRequest
from cgworker.kernel.store.annotations import annotate
from cgworker.kernel.store.claims.fence import check_claim, find_claim, refuse
from cgworker.kernel.store.ids import digest, hash_of, new_box_id, new_record_id, turn_number
from cgworker.kernel.store.postgres import Database
from cgworker.kernel.store.records import card_metadata
from cgworker.kernel.store.singletons import check_singleton, refuse_second
from cgworker.lifecycle import TurnOutcome
from cgworker.wire.converter import ABSENT, dumps
from cgworker.wire.refs import ClaimToken, TurnRef
from cgworker.wire.turns import Finish

# $10 is the payload as JSON text, null where there is none: then no record and no final role.
FINISH_TURN = """
with closed as (
    update cg_turns
    set state = 'closed', outcome = $5, closed_at = clock_timestamp(), updated_at = clock_timestamp(),
        claim_agent_id = null, claim_token_hash = null, claim_expires_at = null,
        settled_token_hash = $4, settled_digest = $6,
        record_count = record_count + ($10::text is not null)::int,
        final_record_role = case when $10::text is not null then $7 end,
        final_seq = case when $10::text is not null then record_count + 1 end
    where project_id = $1 and turn_number = $2
        and state = 'running' and claim_agent_id = $3 and claim_token_hash = $4
        and claim_expires_at > clock_timestamp()
    returning *
), freed as (
    update cg_agents a
    set held_count = a.held_count - 1
    from closed c
    where a.project_id = c.project_id and a.agent_id = c.target_agent_id
), recorded as (
    insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id,
        metadata, payload, created_at)
    select project_id, turn_number, final_seq, $8, $7, $9, $11, $12::json, $10::text::json, clock_timestamp()
    from closed
    where $10::text is not null
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, payload_box_id, agent_id, turn_number, parent_number)
    select c.project_id, e.event_type, 'turn', 'T-' || c.turn_number, 'agent', $3,
        c.cause_kind, c.cause_id, e.annotations, e.payload_box_id, c.target_agent_id, c.turn_number,
        case when e.event_type = 'turn.finished' then c.parent_number end
    from closed c
    join (values
        (1, 'turn.progress_appended', $13::json, $9),
        (2, 'turn.finished', $14::json, null)
    ) e (place, event_type, annotations, payload_box_id) on e.place = 2 or $10::text is not null
    order by e.place
)
select parent_number from closed
"""


async def finish_turn(database: Database, claim: ClaimToken, finish: Finish) -> TurnRef | None:
    """Close the turn; a repeat with the same token and content changes nothing (decision 4).

    Returns:
        The parent turn, whose feed has the news as well; None for a root, and for a repeat.

    Raises:
        InvalidRequest: there is no such outcome.
        NotFoundError, FencingError: the claim is not the current one, or its lease has ended.
        ConflictError: the role takes one record only.
    """
    _check_outcome(finish.outcome)
    has_payload = finish.final_payload is not ABSENT
    if has_payload:
        check_singleton(finish.final_record_role, finish.final_payload)
    role, box_id = finish.final_record_role, new_box_id()
    content = digest([finish.outcome, *([finish.final_payload, role] if has_payload else [])])
    try:
        row = await database.fetchrow(
            FINISH_TURN,
            claim.project_id,
            turn_number(claim.turn_id),
            claim.agent_id,
            hash_of(claim.token),
            finish.outcome,
            content,
            role,
            new_record_id(),
            box_id,
            dumps(finish.final_payload).decode() if has_payload else None,
            new_box_id(),
            card_metadata(role),
            annotate(finish.meta, record_role=role),
            annotate(finish.meta),
        )
    except asyncpg.UniqueViolationError:
        refuse_second(role)
    if row is None:
        await require_repeat(database, claim, content)
        return None
    parent = row["parent_number"]
    return None if parent is None else TurnRef(project_id=claim.project_id, turn_id=f"T-{parent}")


async def require_repeat(database: Database, claim: ClaimToken, content: bytes) -> None:
    """Let a repeat of the last settle call pass, until the turn is claimed again; refuse all else."""
    row = await find_claim(database, claim)
    if row["settled_token_hash"] == hash_of(claim.token) and row["settled_digest"] == content:
        return
    check_claim(row, claim)
    await refuse(database, claim)


def _check_outcome(outcome: str) -> None:
    if outcome not in set(TurnOutcome):
        msg = "Input should be 'succeeded', 'failed' or 'stopped'"
        raise InvalidRequest([{"type": "enum", "loc": ["body", "outcome"], "msg": msg}])
