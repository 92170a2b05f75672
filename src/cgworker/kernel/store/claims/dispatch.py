"""Dispatch turns: on the requester's own authority (a root) or under a parent's claim (a child)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from attrs import frozen

from cgworker.errors import ConflictError, InvalidRequest, NotFoundError
from cgworker.kernel.store.annotations import annotate
from cgworker.kernel.store.batch import Answers, by_place, columns, in_rounds, rows_by_place
from cgworker.kernel.store.callers import Caller, PresentedCredential, require_caller, touch_used
from cgworker.kernel.store.claims.fence import check_claim, claim_columns, find_claim, retry_later
from cgworker.kernel.store.claims.hand_over import WaitingClaim, hand_over
from cgworker.kernel.store.ids import (
    digest,
    digest_of_text,
    keyed_box_id,
    new_box_id,
    new_record_id,
    turn_ref,
)
from cgworker.kernel.store.postgres.database import Database, Row
from cgworker.wire.converter import dumps
from cgworker.wire.refs import ClaimToken, TurnRef
from cgworker.wire.refusals import Refusal
from cgworker.wire.turns import Dispatch, RootRequest

# Creates the turns of new dispatches. A replay, or a dispatch that is refused, gets no row.
#
# Locks are taken in this order: the parents' turns, the dispatch keys, and last the project's row, since it
# stays locked until the commit. A replay still checks the parent's fence and extends its lease.
DISPATCH_TURNS = """
with sent as (
    -- Dispatches with a valid credential, to a target that has the capability that the kind needs.
    select s.*, who.is_touch_due, 'turn.dispatch.any' = any (who.grants) as may_dispatch_any
    from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::bigint[], $12::text[], $13::bytea[], $14::text[], $15::text[], $16::text[],
            $17::text[], $18::text[], $19::bytea[]) with ordinality
        as s (requester_id, target_id, turn_kind, spawn_key, cause_kind, cause_id, box_id,
            input, parent_number, parent_agent_id, parent_hash, record_id, card_id,
            spawn_annotations, record_annotations, credential_id, secret_hash, place)
    cross join lateral cg_callers($1, s.requester_id, s.credential_id, s.secret_hash) who
    cross join lateral (
        select capabilities from cg_agents where project_id = $1 and agent_id = s.target_id limit 1
    ) target
    where not starts_with(s.turn_kind, 'turn.') or s.turn_kind = any (target.capabilities)
), held as (
    -- The fence of children: lock the parent turns whose claim is the current one, in the order of numbers.
    select s.place, s.parent_number
    from (select * from sent where parent_number is not null order by parent_number) s
    cross join lateral (
        select
        from cg_turns
        where project_id = $1 and turn_number = s.parent_number
            and claim_agent_id = s.parent_agent_id and claim_token_hash = s.parent_hash
            and claim_expires_at > cg_clock()
            and (claim_agent_id = s.requester_id or s.may_dispatch_any)
        for no key update
    ) t
), extended as (
    -- Extend the parents' leases.
    update cg_turns
    set claim_expires_at = cg_clock() + $2, updated_at = cg_clock()
    where project_id = $1 and turn_number = any (array(select parent_number from held))
), spawned as (
    -- Take the dispatch keys of roots and fenced children. A key that is taken already means a replay.
    insert into cg_spawns (project_id, spawn_key)
    select $1, s.spawn_key
    from sent s
    left join held h on h.place = s.place
    where s.parent_number is null or h.place is not null
    order by s.spawn_key
    on conflict do nothing
    returning spawn_key
), counted as (
    -- Count the new turns on the project, which reserves their numbers.
    update cg_projects
    set turn_count = turn_count + (select count(*) from spawned)
    where project_id = $1 and exists (select from spawned)
    returning turn_count
), numbered as (
    -- Number the new turns in the order of the dispatches.
    select s.*, c.turn_count - row_number() over (order by s.place desc) + 1 as turn_number
    from spawned
    join sent s on s.spawn_key = spawned.spawn_key
    cross join counted c
), born as (
    -- The turns, queued.
    insert into cg_turns (project_id, turn_number, target_agent_id, requested_by_agent_id, turn_kind,
        cause_kind, cause_id, parent_number, spawn_key, state, record_count, created_at, updated_at)
    select $1, turn_number, target_id, requester_id, turn_kind,
        cause_kind, cause_id, parent_number, spawn_key, 'queued', 1, cg_clock(), cg_clock()
    from numbered
), recorded as (
    -- The first record of each, its input.
    insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id,
        metadata, payload, created_at)
    select $1, turn_number, 1, record_id, 'bootstrap', box_id, card_id,
        '{"cg_role":"bootstrap_bundle","cg_source":"CommonGround"}', input::json, cg_clock()
    from numbered
), logged as (
    -- Two events for each turn; the first one also names the parent.
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, payload_box_id, agent_id, turn_number, parent_number)
    select $1, e.event_type, 'turn', 'T-' || n.turn_number, 'agent', n.requester_id,
        n.cause_kind, n.cause_id,
        case e.step when 1 then n.spawn_annotations::json else n.record_annotations::json end,
        n.box_id, n.target_id, n.turn_number,
        case e.step when 1 then n.parent_number end
    from numbered n
    cross join (values (1, 'turn.spawned'), (2, 'turn.bootstrap_recorded')) e (step, event_type)
    order by n.place, e.step
)
select place, is_touch_due, turn_number from numbered
"""


@frozen
class DispatchRequest:
    """A dispatch, and the credential that its caller presented."""

    request: Dispatch
    bearer: PresentedCredential


@frozen
class Dispatched:
    """The turn of a dispatch.

    Attributes:
        turn: the turn.
        is_new: whether this dispatch created it; false for a replay.
        is_handed_over: whether it was given to a waiting claim.
    """

    turn: TurnRef
    is_new: bool
    is_handed_over: bool = False


@frozen
class _Spawn:
    """The columns of cg_turns and cg_records that follow from a dispatch's authority."""

    cause_kind: str
    cause_id: str
    write_key: str
    entrypoint: str
    parent: ClaimToken | None

    @classmethod
    def of(cls, request: Dispatch) -> _Spawn:
        target, key = request.target_agent.agent_id, request.dispatch_key
        if isinstance(request.authority, RootRequest):
            request_id = request.authority.request_id
            write_key = f"dispatch-root:{target}:{request_id}:{key}"
            return cls("external_request", request_id, write_key, "dispatch.root_request", None)
        parent = request.authority.parent_claim
        write_key = f"dispatch:child:{parent.turn_id}:{target}:{key}"
        return cls("turn", parent.turn_id, write_key, "dispatch.child_derivation", parent)


async def dispatch_turns(
    database: Database,
    project_id: str,
    dispatches: Sequence[DispatchRequest],
    *,
    lease: timedelta,
    waiting: WaitingClaim | None = None,
) -> Answers[Dispatched]:
    """Dispatch turns, or find the turns that earlier dispatches with the same keys created.

    Args:
        database: the kernel's database.
        project_id: the project of all the turns.
        dispatches: the requests.
        lease: the length of a lease, for parents and for a claim that gets a turn.
        waiting: a waiting claim of the target agent, which may get the turn at once; only for a single
            dispatch.

    Returns:
        By place, the turn or the refusal: UnauthorizedError, ForbiddenError, NotFoundError, ConflictError or
        FencingError, in the order of wire 6.4 and 8.3.
    """

    async def insert(some: list[DispatchRequest]) -> Answers[Dispatched]:
        sent = [row_of(item) for item in some]
        found = None if waiting is None else await _hand_over(database, project_id, lease, sent[0], waiting)
        if found is None:
            found = await database.fetch(DISPATCH_TURNS, project_id, lease, *columns(sent))
        return await answers_of(database, project_id, some, found)

    return await in_rounds(dispatches, lambda item: [item.request.dispatch_key], insert)


async def answers_of(
    database: Database, project_id: str, sent: list[DispatchRequest], found: list[Row]
) -> Answers[Dispatched]:
    """Return the answers to dispatches from the rows that DISPATCH_TURNS gave for them, by place."""
    rows = rows_by_place(found)
    await touch_used(database, [item.bearer for item in sent], rows)
    born = {place: _dispatched_of(project_id, row) for place, row in rows.items()}
    return by_place(sent, born, lambda item: _replay(database, item))


async def _hand_over(
    database: Database, project_id: str, lease: timedelta, sent: tuple[Any, ...], waiting: WaitingClaim
) -> list[Row] | None:
    """Dispatch a turn to a waiting claim; return None if the database cannot hold one of the values.

    The value may be the claim's, which must not refuse the dispatch: the caller then dispatches without it.
    """
    with suppress(InvalidRequest):
        return await hand_over(database, project_id, lease, sent, waiting)
    return None


def _dispatched_of(project_id: str, row: Row) -> Dispatched:
    is_handed_over = row.get("state") == "running"
    return Dispatched(turn_ref(project_id, row["turn_number"]), True, is_handed_over)


def row_of(item: DispatchRequest) -> tuple[Any, ...]:
    """Return the columns of a dispatch for DISPATCH_TURNS."""
    request = item.request
    spawn = _Spawn.of(request)
    parent = (None, None, None) if spawn.parent is None else claim_columns(spawn.parent)
    facts = {
        "requested_by": request.requested_by.agent_id,
        "turn_kind": request.turn_kind,
        "spawn_entrypoint": spawn.entrypoint,
    }
    return (
        request.requested_by.agent_id,
        request.target_agent.agent_id,
        request.turn_kind,
        request.dispatch_key,
        spawn.cause_kind,
        spawn.cause_id,
        keyed_box_id(request.requested_by.project_id, spawn.write_key),
        dumps(request.input).decode(),
        *parent,
        new_record_id(),
        new_box_id(),
        annotate(request.meta, **facts),
        annotate(record_role="bootstrap"),
        *item.bearer.row(),
    )


# ---------------------------------------------------------------- replays and refusals


FIND_SPAWNED = """
select t.*, r.payload as input
from cg_turns t
join cg_records r on r.project_id = t.project_id and r.turn_number = t.turn_number and r.turn_seq = 1
where t.project_id = $1 and t.spawn_key = $2 and t.turn_number > 0
"""

FIND_AGENT = "select capabilities from cg_agents where project_id = $1 and agent_id = $2"


async def _replay(database: Database, item: DispatchRequest) -> Dispatched:
    """Return the turn that this dispatch created before; raise the first refusal that applies."""
    request, spawn = item.request, _Spawn.of(item.request)
    caller = await require_caller(database, item.bearer)
    project_id = request.requested_by.project_id
    parent = None if spawn.parent is None else await find_claim(database, spawn.parent)
    found = await database.fetchrow(FIND_SPAWNED, project_id, request.dispatch_key)
    if (
        found is not None
        and _has_same_box(found, request, spawn)
        and not await _has_same_input(found, request)
    ):
        raise ConflictError(f"cardbox write_key conflict: {spawn.write_key}")
    capabilities = await _require_agents(database, request)
    if parent is not None and spawn.parent is not None:
        _check_parent(parent, spawn.parent, caller)
    if found is not None:
        _compare(found, request, spawn)
        return Dispatched(turn_ref(project_id, found["turn_number"]), is_new=False)
    if request.turn_kind.startswith("turn.") and request.turn_kind not in capabilities:
        target = request.target_agent.agent_id
        raise ConflictError(
            f"target agent {target} missing required capability for turn_kind {request.turn_kind}"
        )
    raise retry_later("dispatch")


async def _require_agents(database: Database, request: Dispatch) -> list[str]:
    capabilities: list[str] = []
    for agent in (request.requested_by, request.target_agent):
        row = await database.fetchrow(FIND_AGENT, agent.project_id, agent.agent_id)
        if row is None:
            raise NotFoundError(f"agent not found: {agent.agent_id}")
        capabilities = row["capabilities"]
    return capabilities


def _check_parent(row: Row, claim: ClaimToken, caller: Caller) -> None:
    check_claim(row, claim)
    if caller.agent != claim.agent and not caller.holds("turn.dispatch.any"):
        raise Refusal.MAY_NOT_DISPATCH_CHILD.error()


def _has_same_box(found: Row, request: Dispatch, spawn: _Spawn) -> bool:
    return (found["target_agent_id"], found["cause_kind"], found["cause_id"]) == (
        request.target_agent.agent_id,
        spawn.cause_kind,
        spawn.cause_id,
    )


async def _has_same_input(found: Row, request: Dispatch) -> bool:
    return await digest_of_text(found["input"]) == digest(request.input)


def _compare(found: Row, request: Dispatch, spawn: _Spawn) -> None:
    """Raise ConflictError, naming the first difference, unless the replay equals the first dispatch."""
    same = {
        "requested_by": found["requested_by_agent_id"] == request.requested_by.agent_id,
        "turn_kind": found["turn_kind"] == request.turn_kind,
        "cause": (found["cause_kind"], found["cause_id"]) == (spawn.cause_kind, spawn.cause_id),
        "bootstrap bundle": _has_same_box(found, request, spawn),
        "target_agent": found["target_agent_id"] == request.target_agent.agent_id,
    }
    for what, is_same in same.items():
        if not is_same:
            raise ConflictError(f"spawn key conflict for {request.dispatch_key}: {what} differs")
