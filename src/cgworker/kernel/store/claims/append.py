"""Adding a record to a turn."""

from __future__ import annotations

import asyncpg

from cgworker.errors import ConflictError
from cgworker.kernel.store.annotations import annotate
from cgworker.kernel.store.claims.fence import refuse
from cgworker.kernel.store.ids import digest, hash_of, new_box_id, new_record_id, turn_number
from cgworker.kernel.store.postgres import Database
from cgworker.kernel.store.records import card_metadata
from cgworker.kernel.store.singletons import check_singleton, refuse_second
from cgworker.wire.converter import dumps, unstructure
from cgworker.wire.records import AppendRecord
from cgworker.wire.refs import CardBoxRef

_ROUTE = "semantic-records"

APPEND_RECORD = """
with fenced as (
    update cg_turns
    set record_count = record_count + 1, updated_at = clock_timestamp()
    where project_id = $1 and turn_number = $2
        and state = 'running' and claim_agent_id = $3 and claim_token_hash = $4
        and claim_expires_at > clock_timestamp()
    returning *
), recorded as (
    insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id,
        metadata, payload, created_at)
    select project_id, turn_number, record_count, $5, $6, $7, $8, $9::json, $10::json, clock_timestamp()
    from fenced
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, payload_box_id, agent_id, turn_number)
    select project_id, 'turn.progress_appended', 'turn', 'T-' || turn_number, 'agent', $3,
        cause_kind, cause_id, $11::json, $7, target_agent_id, turn_number
    from fenced
), remembered as (
    insert into cg_idempotency_keys (project_id, agent_id, route, key, body_digest, turn_number, answer)
    select project_id, $3, 'semantic-records', $12, $13, turn_number, to_json($7)
    from fenced
    where $12::text is not null
)
select turn_number from fenced
"""

FIND_APPENDED = """
select body_digest, turn_number, answer #>> '{}' as box_id
from cg_idempotency_keys
where project_id = $1 and agent_id = $2 and route = $3 and key = $4
"""


async def append_record(database: Database, request: AppendRecord, *, key: str | None = None) -> CardBoxRef:
    """Add the record under its claim; with an Idempotency-Key a repeat adds nothing (decision 4).

    Raises:
        NotFoundError, FencingError: the claim is not the current one, or its lease has ended.
        ConflictError: the key came with another body before, or the role takes one record only.
    """
    claim, box_id = request.claim, new_box_id()
    check_singleton(request.role, request.payload)
    body = _digest_of(request) if key is not None else None
    try:
        appended = await database.fetchval(
            APPEND_RECORD,
            claim.project_id,
            turn_number(claim.turn_id),
            claim.agent_id,
            hash_of(claim.token),
            new_record_id(),
            request.role,
            box_id,
            new_box_id(),
            card_metadata(request.role),
            dumps(request.payload).decode(),
            annotate(request.meta, record_role=request.role),
            key,
            body,
        )
    except asyncpg.UniqueViolationError as violated:
        if violated.constraint_name == "cg_records_singletons":
            refuse_second(request.role)
        assert key is not None
        return await _repeated(database, request, key)
    if appended is None:
        return await _repeated(database, request, key)
    return CardBoxRef(project_id=claim.project_id, cardbox_id=box_id)


async def _repeated(database: Database, request: AppendRecord, key: str | None) -> CardBoxRef:
    """The first answer; also after the claim has ended, which is when it is most needed."""
    claim = request.claim
    row = key and await database.fetchrow(FIND_APPENDED, claim.project_id, claim.agent_id, _ROUTE, key)
    if not row:
        await refuse(database, claim)
    if row["body_digest"] != _digest_of(request) or row["turn_number"] != turn_number(claim.turn_id):
        raise ConflictError("idempotency key was used with another body")
    return CardBoxRef(project_id=claim.project_id, cardbox_id=row["box_id"])


def _digest_of(request: AppendRecord) -> bytes:
    """Of the record itself: the same record under a fresh token is the same request."""
    return digest([request.role, unstructure(request.payload), unstructure(request.meta)])
