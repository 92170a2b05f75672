"""Append records to turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attrs import frozen

from cgworker.errors import ConflictError
from cgworker.kernel.store.annotations import annotate_record
from cgworker.kernel.store.batch import Answers, by_place, columns, in_rounds, rows_by_place
from cgworker.kernel.store.callers import PresentedCredential, require_caller, touch_used
from cgworker.kernel.store.claims.fence import check_claim, claim_columns, find_claim, retry_later
from cgworker.kernel.store.ids import digest, new_box_id, new_record_id, turn_number
from cgworker.kernel.store.postgres.database import Database, Row
from cgworker.kernel.store.record_rules import check_singleton, payload_fault
from cgworker.kernel.store.records import card_metadata
from cgworker.wire.converter import dumps, unstructure
from cgworker.wire.records import AppendRecord
from cgworker.wire.refs import CardBoxRef

# Adds a record to each turn whose claim is the current one. A record that is refused gets no row.
#
# An Idempotency-Key that is in use, or a second record of a role that a turn may have once, is refused like a
# stale claim. If it appears between the check and the insert, the insert violates a unique key, and the
# statement is run again.
APPEND_RECORDS = """
with sent as (
    -- Records with a valid credential.
    select s.*, who.is_touch_due
    from unnest($2::bigint[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::text[], $10::text[], $11::text[], $12::text[], $13::bytea[], $14::text[],
            $15::bytea[]) with ordinality
        as s (turn_number, agent_id, token_hash, record_id, role, box_id, card_id,
            metadata, payload, annotations, key, body_digest, credential_id, secret_hash, place)
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
    where (  -- not EXISTS: see __init__.py
            select k.turn_number
            from cg_idempotency_keys k
            where k.project_id = $1 and k.agent_id = s.agent_id and k.route = 'semantic-records'
                and k.key = s.key
        ) is null
        and (s.role <> 'provision_launch_started' or (
            select r.turn_number
            from cg_records r
            where r.project_id = $1 and r.turn_number = s.turn_number
                and r.role = 'provision_launch_started'
            limit 1
        ) is null)
), counted as (
    -- Count the records, which numbers the new ones.
    update cg_turns t
    set record_count = t.record_count + 1, updated_at = cg_clock()
    from held h
    where t.project_id = $1 and t.turn_number = any (array(select turn_number from held))
        and t.turn_number = h.turn_number
    returning h.place, h.is_touch_due, t.*
), recorded as (
    -- Add the records.
    insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id,
        metadata, payload, created_at)
    select $1, c.turn_number, c.record_count, s.record_id, s.role, s.box_id, s.card_id,
        s.metadata::json, s.payload::json, cg_clock()
    from counted c
    join sent s on s.place = c.place
), logged as (
    -- One event per record.
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, payload_box_id, agent_id, turn_number)
    select $1, 'turn.progress_appended', 'turn', 'T-' || c.turn_number, 'agent', s.agent_id,
        c.cause_kind, c.cause_id, s.annotations::json, s.box_id, c.target_agent_id, c.turn_number
    from counted c
    join sent s on s.place = c.place
    order by c.place
), remembered as (
    -- Note the answer under the Idempotency-Key.
    insert into cg_idempotency_keys (project_id, agent_id, route, key, body_digest, turn_number, answer)
    select $1, s.agent_id, 'semantic-records', s.key, s.body_digest, c.turn_number, to_json(s.box_id)
    from counted c
    join sent s on s.place = c.place
    where s.key is not null
)
select place, is_touch_due from counted
"""


# APPEND_RECORDS for one record, as nearly all are. It takes plain values instead of arrays, and its fence is
# in the update, since one row needs no order.
APPEND_RECORD = """
with counted as (
    -- The fence, and the count, which numbers the new record.
    update cg_turns t
    set record_count = t.record_count + 1, updated_at = cg_clock()
    from cg_callers($1, $3, $14, $15) who
    where t.project_id = $1 and t.turn_number = $2
        and t.claim_agent_id = $3 and t.claim_token_hash = $4 and t.claim_expires_at > cg_clock()
        and (
            select k.turn_number
            from cg_idempotency_keys k
            where k.project_id = $1 and k.agent_id = $3 and k.route = 'semantic-records' and k.key = $12
        ) is null
        and ($6 <> 'provision_launch_started' or (
            select r.turn_number
            from cg_records r
            where r.project_id = $1 and r.turn_number = $2 and r.role = 'provision_launch_started'
            limit 1
        ) is null)
    returning who.is_touch_due, t.record_count, t.cause_kind, t.cause_id, t.target_agent_id
), recorded as (
    insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id,
        metadata, payload, created_at)
    select $1, $2, record_count, $5, $6, $7, $8, $9::text::json, $10::text::json, cg_clock()
    from counted
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, payload_box_id, agent_id, turn_number)
    select $1, 'turn.progress_appended', 'turn', 'T-' || $2::bigint, 'agent', $3,
        cause_kind, cause_id, $11::text::json, $7, target_agent_id, $2
    from counted
), remembered as (
    insert into cg_idempotency_keys (project_id, agent_id, route, key, body_digest, turn_number, answer)
    select $1, $3, 'semantic-records', $12, $13, $2, to_json($7::text)
    from counted
    where $12 is not null
)
select 1 as place, is_touch_due from counted
"""


@frozen
class Append:
    """A record to append.

    Attributes:
        record: the body of the request.
        bearer: the credential that the caller presented.
        key: the Idempotency-Key; None if the request has none (difference 4).
    """

    record: AppendRecord
    bearer: PresentedCredential
    key: str | None = None

    def conflict_keys(self) -> Iterator[object]:
        """Yield the keys that no two records in one statement may share."""
        yield self.record.claim.turn_id
        if self.key is not None:
            yield self.record.claim.agent_id, self.key

    def body_digest(self) -> bytes:
        """Return the digest of the record alone: the same record under a new token is the same request."""
        record = self.record
        return digest([record.role, unstructure(record.payload), unstructure(record.meta)])


async def append_records(
    database: Database, project_id: str, appends: Sequence[Append]
) -> Answers[CardBoxRef]:
    """Append the records under their claims; with an Idempotency-Key a repeat appends nothing.

    Returns:
        By place, a reference to the record's content, or the refusal: UnauthorizedError or ForbiddenError
        for the credential, NotFoundError if there is no such turn, FencingError if the claim is not the
        current one or its lease has ended, ConflictError if the key was used with another body or the turn
        has a record of the role and may have only one.
    """

    async def append(some: list[Append]) -> Answers[CardBoxRef]:
        boxes = [CardBoxRef(project_id=project_id, cardbox_id=new_box_id()) for _ in some]
        rows = rows_by_place(await _append(database, project_id, [*map(_row_of, some, boxes)]))
        await touch_used(database, [item.bearer for item in some], rows)
        good = {place: boxes[place - 1] for place in rows}
        return by_place(some, good, lambda item: _repeat_or_refuse(database, item))

    return await in_rounds(appends, Append.conflict_keys, append)


async def _append(database: Database, project_id: str, sent: Sequence[tuple[Any, ...]]) -> list[Row]:
    if len(sent) == 1:
        return await database.fetch_retrying_duplicates(APPEND_RECORD, project_id, *sent[0])
    return await database.fetch_retrying_duplicates(APPEND_RECORDS, project_id, *columns(sent))


def _row_of(append: Append, box: CardBoxRef) -> tuple[Any, ...]:
    record = append.record
    number, agent_id, token_hash = claim_columns(record.claim)
    return (
        0
        if payload_fault(record.role, record.payload)
        else number,  # 0 finds no turn: the record cannot be added
        agent_id,
        token_hash,
        new_record_id(),
        record.role,
        box.cardbox_id,
        new_box_id(),
        card_metadata(record.role),
        dumps(record.payload).decode(),
        annotate_record(record.meta, record.role),
        append.key,
        None if append.key is None else append.body_digest(),
        *append.bearer.row(),
    )


# ---------------------------------------------------------------- repeats and refusals


FIND_APPENDED = """
select body_digest, turn_number, answer #>> '{}' as box_id
from cg_idempotency_keys
where project_id = $1 and agent_id = $2 and route = 'semantic-records' and key = $3
"""


async def _repeat_or_refuse(database: Database, append: Append) -> CardBoxRef:
    """Return the first answer to the key, even if the claim has ended since; else raise the refusal."""
    record = append.record
    claim = record.claim
    await require_caller(database, append.bearer)
    if append.key is not None:
        first = await database.fetchrow(FIND_APPENDED, claim.project_id, claim.agent_id, append.key)
        if first is not None:
            return _first_answer(first, append)
    check_claim(await find_claim(database, claim), claim)
    await check_singleton(database, claim.turn, record.role, record.payload)
    raise retry_later("append")


def _first_answer(first: Row, append: Append) -> CardBoxRef:
    claim = append.record.claim
    if (first["turn_number"], first["body_digest"]) != (turn_number(claim.turn_id), append.body_digest()):
        raise ConflictError("idempotency key was used with another body")
    return CardBoxRef(project_id=claim.project_id, cardbox_id=first["box_id"])
