"""Read turns, and run the operations that need no claim: stop and resume."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeAlias

import orjson
from attrs import frozen

from cgworker.errors import ConflictError, NotFoundError
from cgworker.kernel.store.annotations import annotate, with_remarks
from cgworker.kernel.store.ids import turn_id, turn_number, turn_ref
from cgworker.kernel.store.postgres.database import Connection, Database, Row
from cgworker.wire.absent import ABSENT, Absent
from cgworker.wire.meta import Meta
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.refusals import Refusal
from cgworker.wire.turns import ResumeTurn, StopTurn

# ---------------------------------------------------------------- reading


StoredTurn: TypeAlias = dict[str, Any]
"""A turn as the JSON of a TurnSnapshot. To make the classes first was a quarter of the calls of a claim."""

_IF_SET = ("not_before", "priority", "serial_key", "fairness_key")

GET_TURN = """
select t.*, r.box_id as final_box_id, r.payload as final_payload
from cg_turns t
left join lateral (
    select box_id, payload
    from cg_records
    where project_id = t.project_id and turn_number = t.turn_number and turn_seq = t.final_seq
    limit 1  -- keeps the lookup by key, whatever PostgreSQL knows of the table
) r on true
where t.project_id = $1 and t.turn_number = $2
"""


async def get_turn(database: Database, ref: TurnRef) -> StoredTurn:
    """Return the current state of a turn.

    Raises:
        NotFoundError: there is no such turn.
    """
    row = await database.fetchrow(GET_TURN, ref.project_id, turn_number(ref.turn_id))
    if row is None:
        raise NotFoundError(f"turn not found: {ref.turn_id}")
    return snapshot_of(row, final_box_id=row["final_box_id"], final_payload=row["final_payload"])


def snapshot_of(row: Row, *, final_box_id: str | None = None, final_payload: str | None = None) -> StoredTurn:
    """Convert a row of cg_turns; the payload stays the stored JSON text."""
    project_id, state = row["project_id"], row["state"]
    snapshot = {
        "turn": {"project_id": project_id, "turn_id": turn_id(row["turn_number"])},
        "target_agent": {"project_id": project_id, "agent_id": row["target_agent_id"]},
        "turn_kind": row["turn_kind"],
        "cause": {"kind": row["cause_kind"], "id": row["cause_id"]},
        "state": state,
        "outcome": row["outcome"],
        "stop_requested": row["stop_requested"],
        "current_claim_agent_id": row["claim_agent_id"],
        "claim_expires_at": row["claim_expires_at"],
        "spawn_key": row["spawn_key"],
        "final_record_role": row["final_record_role"],
        "final_cardbox_ref": {"project_id": project_id, "cardbox_id": final_box_id} if final_box_id else None,
        "final_payload": None if final_payload is None else raw_json(final_payload),
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "closed_at": row["closed_at"],
    }
    if state == "suspended" and (due_at := resume_at(row)) is not ABSENT:
        snapshot["resume_at"] = due_at
    for name in _IF_SET:
        if value := row[name]:
            snapshot[name] = value
    return snapshot


def resume_at(row: Row) -> datetime | Absent:
    """Return when the kernel queues a turn again; ABSENT if it does not."""
    return row["due_at"] if row["state"] == "suspended" and row["due_at"] is not None else ABSENT


def raw_json(text: str) -> Any:
    """Wrap stored JSON text, so that it is written to the wire as it is, without parsing."""
    return orjson.Fragment(text)


# ---------------------------------------------------------------- resume


RESUME_TURN = """
with resumed as (
    update cg_turns
    set state = 'queued', due_at = null, updated_at = cg_clock()
    where project_id = $1 and turn_number = $2 and state = 'suspended' and (target_agent_id = $3 or $4)
    returning *
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, agent_id, turn_number)
    select project_id, 'turn.resumed', 'turn', 'T-' || turn_number, 'agent', $3,
        cause_kind, cause_id, $5::json, target_agent_id, turn_number
    from resumed
)
select target_agent_id from resumed
"""

FIND_TURN = "select * from cg_turns where project_id = $1 and turn_number = $2"


async def resume_turn(
    database: Database, ref: TurnRef, request: ResumeTurn, *, may_resume_any: bool
) -> AgentRef:
    """Queue a suspended turn again, and return the agent that can claim it now.

    Raises:
        NotFoundError, ConflictError, FencingError: in the order of wire 8: state before authority.
    """
    number, actor = turn_number(ref.turn_id), request.requested_by.agent_id
    said = annotate(_resume_remarks(request))
    target = await database.fetchval(RESUME_TURN, ref.project_id, number, actor, may_resume_any, said)
    if target is None:
        row = await _require_turn(database, ref)
        if row["state"] != "suspended":
            raise ConflictError("only suspended turns can be resumed")
        raise Refusal.MAY_NOT_RESUME.error()
    return AgentRef(project_id=ref.project_id, agent_id=target)


def _resume_remarks(request: ResumeTurn) -> Meta | None:
    return request.meta if request.note is None else with_remarks(request.meta, note=request.note)


async def _require_turn(database: Database, ref: TurnRef) -> Row:
    row = await database.fetchrow(FIND_TURN, ref.project_id, turn_number(ref.turn_id))
    if row is None:
        raise NotFoundError(f"turn not found: {ref.turn_id}")
    return row


# ---------------------------------------------------------------- stop


# Notes a stop once, in any state. If the turn's lease has ended, closes the turn too and frees its slot.
STOP_TURN = """
with found as (
    select turn_number, stop_requested as was_requested,
        state, state = 'running' and claim_expires_at <= cg_clock() as is_over
    from cg_turns
    where project_id = $1 and turn_number = $2 and (target_agent_id = $3 or $4)
    for no key update
), stopped as (
    update cg_turns t
    set stop_requested = true,
        state = case when f.is_over then 'closed' else t.state end,
        outcome = case when f.is_over then 'stopped' else t.outcome end,
        closed_at = case when f.is_over then cg_clock() else t.closed_at end,
        claim_agent_id = case when f.is_over then null else t.claim_agent_id end,
        claim_token_hash = case when f.is_over then null else t.claim_token_hash end,
        claim_expires_at = case when f.is_over then null else t.claim_expires_at end,
        updated_at = cg_clock()
    from found f
    where t.project_id = $1 and t.turn_number = $2 and (f.is_over or not f.was_requested)
    returning t.*, f.was_requested, f.is_over
), freed as (
    update cg_agents a
    set held_count = a.held_count - 1
    where a.project_id = $1 and a.agent_id = any (array(select target_agent_id from stopped where is_over))
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, agent_id, turn_number, parent_number)
    select $1, e.event_type, 'turn', 'T-' || s.turn_number, 'agent', $3,
        s.cause_kind, s.cause_id, $5::json, s.target_agent_id, s.turn_number,
        case when e.event_type = 'turn.finished' then s.parent_number end
    from stopped s
    join (values (1, 'turn.stop_requested'), (2, 'turn.finished')) e (step, event_type)
        on case e.step when 1 then not s.was_requested else s.is_over end
    order by e.step
)
-- If that ends the turn, the next one of its serial key is ready now.
select f.is_over, f.state, t.target_agent_id, t.parent_number,
    case when f.is_over and t.serial_key is not null then cg_free_key($1, t.target_agent_id, t.serial_key) end
from found f
join cg_turns t on t.project_id = $1 and t.turn_number = $2
"""

# A turn that waits for its time, or to be tried again, waits no longer once it is to be stopped (difference
# 30). The row is locked since STOP_TURN; this is a statement of its own, so that it sees a suspension
# committed just then. Events without a number are the newest.
QUEUE_STOPPED = """
with suspension as (
    select coalesce(
        (select annotations from cg_ledger
         where project_id = $1 and turn_number = $2 and ledger_seq is null
            and event_type = 'turn.suspended'
         order by event_id desc limit 1),
        (select annotations from cg_ledger
         where project_id = $1 and turn_number = $2 and ledger_seq is not null
            and event_type = 'turn.suspended'
         order by ledger_seq desc limit 1)
    ) as annotations
), queued as (
    update cg_turns t
    set state = 'queued', due_at = null, updated_at = cg_clock()
    from suspension s
    where t.project_id = $1 and t.turn_number = $2 and t.state = 'suspended'
        and (t.due_at is not null or s.annotations #>> '{caller,reason}' = 'worker_retry')
    returning t.*
)
insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
    cause_kind, cause_id, annotations, agent_id, turn_number)
select project_id, 'turn.resumed', 'turn', 'T-' || turn_number, 'system', 'system',
    cause_kind, cause_id, $3::json, target_agent_id, turn_number
from queued
"""


# So does a turn that was dispatched for later: the next claim takes it. The condition is written so that
# PostgreSQL cannot look for the turn among all that wait for an instant.
END_DELAY = """
update cg_turns set due_at = cg_now()
where project_id = $1 and turn_number = $2 and state = 'queued' and coalesce(due_at, cg_now()) > cg_now()
"""


@frozen
class StopResult:
    """A noted stop: the turn's agent, and its parent if the stop closed a child."""

    agent: AgentRef
    parent: TurnRef | None


async def stop_turn(database: Database, request: StopTurn, *, may_stop_any: bool) -> StopResult:
    """Request a stop of a turn; close the turn if its lease has ended.

    One that waits for its time, or to be tried again, can be claimed at once: a worker settles it as stopped.

    Raises:
        NotFoundError, FencingError: in the order of wire 8: authority before state.
    """
    ref, actor = request.turn, request.requested_by.agent_id
    said = annotate(Meta(reason="operator_stop") if request.meta is None else request.meta)
    number = turn_number(ref.turn_id)

    async def stop(connection: Connection) -> Row | None:
        row = await connection.fetchrow(STOP_TURN, ref.project_id, number, actor, may_stop_any, said)
        if row is not None and row["state"] == "suspended":
            resumed = annotate(reason="stop_requested")
            await connection.execute(QUEUE_STOPPED, ref.project_id, number, resumed)
        elif row is not None and row["state"] == "queued":
            await connection.execute(END_DELAY, ref.project_id, number)
        return row

    row = await database.transact(stop)
    if row is None:
        await _require_turn(database, ref)
        raise Refusal.MAY_NOT_STOP.error()
    is_closed_child = row["is_over"] and row["parent_number"] is not None
    return StopResult(
        AgentRef(project_id=ref.project_id, agent_id=row["target_agent_id"]),
        turn_ref(ref.project_id, row["parent_number"]) if is_closed_child else None,
    )
