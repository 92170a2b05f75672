"""Do closed turns again: dispatch their input anew, and carry records along if asked (difference 34)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from attrs import evolve

from cgworker.errors import ConflictError, NotFoundError
from cgworker.kernel.offload import offload
from cgworker.kernel.store.batch import columns, resolve_all, single
from cgworker.kernel.store.callers import PresentedCredential
from cgworker.kernel.store.claims.dispatch import DISPATCH_TURNS, answers_of, row_of
from cgworker.kernel.store.claims.replay import Dispatched, DispatchRequest
from cgworker.kernel.store.ids import json_text, turn_number
from cgworker.kernel.store.postgres.database import Connection, Database, Row
from cgworker.wire.absent import ABSENT
from cgworker.wire.converter import loads
from cgworker.wire.meta import Meta
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.turns import Dispatch, RedoTurn, RootRequest

CARRIED_ROLES = ("step", "children", "question", "answer")
"""The roles of the records that let a durable handler go on where it failed."""

_QUICK_CHARACTERS = 4096

FIND_TURN = """
select t.*, r.payload as input
from cg_turns t
join cg_records r on r.project_id = t.project_id and r.turn_number = t.turn_number and r.turn_seq = 1
where t.project_id = $1 and t.turn_number = $2
"""

# Copies the records of turn $2 that are of the roles $4 to the new turn $3, after its input.
CARRY_RECORDS = """
with carried as materialized (
    select role, metadata, payload, row_number() over (order by turn_seq) + 1 as new_seq,
        'record_' || replace(gen_random_uuid()::text, '-', '') as record_id,
        gen_random_uuid()::text as box_id, gen_random_uuid()::text as card_id
    from cg_records
    where project_id = $1 and turn_number = $2 and turn_seq > 1 and role = any ($4)
), recorded as (
    insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id,
        metadata, payload, created_at)
    select $1, $3, new_seq, record_id, role, box_id, card_id, metadata, payload, cg_clock()
    from carried
), counted as (
    update cg_turns
    set record_count = record_count + (select count(*) from carried)
    where project_id = $1 and turn_number = $3
    returning *
)
insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
    cause_kind, cause_id, annotations, payload_box_id, agent_id, turn_number)
select $1, 'turn.progress_appended', 'turn', 'T-' || t.turn_number, 'agent', t.requested_by_agent_id,
    t.cause_kind, t.cause_id,
    json_build_object('record_role', c.role, 'system', json_build_object('record_role', c.role)),
    c.box_id, t.target_agent_id, t.turn_number
from carried c
cross join counted t
order by c.new_seq
"""


async def redo_turn(
    database: Database, ref: TurnRef, request: RedoTurn, bearer: PresentedCredential, *, lease: timedelta
) -> tuple[Dispatched, AgentRef]:
    """Dispatch the input of a closed turn anew; a repeat with the same key gives the same turn.

    Args:
        database: the database.
        ref: the closed turn.
        request: who asks, the key, and whether records are carried along.
        bearer: the credential that the caller presented.
        lease: the length of a lease.

    Returns:
        The new turn, and the agent that it is addressed to.

    Raises:
        NotFoundError: there is no such turn.
        ConflictError: the turn is not closed, or the key belongs to another dispatch.
        UnauthorizedError, ForbiddenError: the credential is not valid.
    """
    number = turn_number(ref.turn_id)
    found = await database.fetchrow(FIND_TURN, ref.project_id, number)
    if found is None:
        raise NotFoundError(f"turn not found: {ref.turn_id}")
    if found["state"] != "closed":
        raise ConflictError(f"only closed turns can be done again: {ref.turn_id} is {found['state']}")
    anew = DispatchRequest(await _dispatch_of(found, ref, request), bearer)

    async def redo(connection: Connection) -> list[Row]:
        rows = await connection.fetch(DISPATCH_TURNS, ref.project_id, lease, *columns([row_of(anew)]))
        if rows and request.keep_steps:
            new_number = rows[0]["turn_number"]
            await connection.execute(CARRY_RECORDS, ref.project_id, number, new_number, CARRIED_ROLES)
        return rows

    rows = await database.transact(redo)
    answers = await answers_of(database, ref.project_id, [anew], rows)
    return single(await resolve_all(answers)), anew.request.target_agent


async def _dispatch_of(found: Row, ref: TurnRef, request: RedoTurn) -> Dispatch:
    """Return the dispatch that does the turn again. Its cause tells whether records are carried along."""
    meta = request.meta or Meta()
    first = f"redo:{ref.turn_id}"
    return Dispatch(
        requested_by=request.requested_by,
        target_agent=AgentRef(project_id=ref.project_id, agent_id=found["target_agent_id"]),
        input=await _json_of(found["input"]),
        turn_kind=found["turn_kind"],
        dispatch_key=request.key or first,
        authority=RootRequest(request_id=f"{first}:keep_steps" if request.keep_steps else first),
        meta=evolve(meta, annotations={**(meta.annotations or {}), "redo_of": ref.turn_id}),
        trace=request.trace,
        not_before=found["not_before"] or ABSENT,
        priority=found["priority"] or ABSENT,
        serial_key=found["serial_key"] or ABSENT,
        fairness_key=found["fairness_key"] or ABSENT,
    )


async def _json_of(text: str) -> Any:
    if len(text) > _QUICK_CHARACTERS:
        return await offload(_parse, text, size_bytes=len(text))
    return _parse(text)


def _parse(text: str) -> Any:
    return json_text(loads(text))
