"""Dispatching: a turn is born, on its requester's own authority or under a parent's claim."""

from __future__ import annotations

from datetime import timedelta

from attrs import frozen

from cgworker.errors import ConflictError, FencingError, KernelOverloaded, NotFoundError
from cgworker.kernel.store.annotations import annotate
from cgworker.kernel.store.claims.fence import check_claim, find_claim
from cgworker.kernel.store.ids import (
    digest,
    hash_of,
    keyed_box_id,
    new_box_id,
    new_record_id,
    turn_id,
    turn_number,
)
from cgworker.kernel.store.postgres import Database, Row
from cgworker.kernel.store.records import card_metadata
from cgworker.wire.converter import dumps, loads
from cgworker.wire.refs import ClaimToken, TurnRef
from cgworker.wire.turns import Dispatch, RootRequest

# The parent's fence, for a child; then the key, which a second dispatch finds taken; the project's row
# last, since it is held until the commit. A parent is fenced and its lease extended also on a replay.
DISPATCH_TURN = """
with eligible as (
    select project_id from cg_projects
    where project_id = $1
        and exists (select from cg_agents where project_id = $1 and agent_id = $2)
        and exists (
            select from cg_agents
            where project_id = $1 and agent_id = $3
                and (not starts_with($4, 'turn.') or $4 = any (capabilities))
        )
), parent as (
    update cg_turns t
    set claim_expires_at = clock_timestamp() + $14, updated_at = clock_timestamp()
    from eligible e
    where $10::bigint is not null and t.project_id = e.project_id and t.turn_number = $10
        and t.state = 'running' and t.claim_agent_id = $11 and t.claim_token_hash = $12
        and t.claim_expires_at > clock_timestamp() and (t.claim_agent_id = $2 or $13)
    returning t.project_id
), allowed as (
    select project_id from eligible where $10 is null
    union all
    select project_id from parent
), spawn as (
    insert into cg_spawns (project_id, spawn_key)
    select project_id, $5 from allowed
    on conflict do nothing
    returning project_id
), numbered as (
    update cg_projects p
    set turn_count = p.turn_count + 1
    from spawn s
    where p.project_id = s.project_id
    returning p.project_id, p.turn_count as turn_number
), born as (
    insert into cg_turns (project_id, turn_number, target_agent_id, requested_by_agent_id, turn_kind,
        cause_kind, cause_id, parent_number, spawn_key, state, record_count, created_at, updated_at)
    select project_id, turn_number, $3, $2, $4, $6, $7, $10, $5, 'queued', 1,
        clock_timestamp(), clock_timestamp()
    from numbered
    returning *
), recorded as (
    insert into cg_records (project_id, turn_number, turn_seq, record_id, role, box_id, card_id,
        metadata, payload, created_at)
    select project_id, turn_number, 1, $15, 'bootstrap', $8, $16, $17::json, $9::json, clock_timestamp()
    from born
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, payload_box_id, agent_id, turn_number, parent_number)
    select b.project_id, e.event_type, 'turn', 'T-' || b.turn_number, 'agent', $2,
        b.cause_kind, b.cause_id, e.annotations, $8, b.target_agent_id, b.turn_number,
        case when e.event_type = 'turn.spawned' then b.parent_number end
    from born b
    cross join (values
        (1, 'turn.spawned', $18::json),
        (2, 'turn.bootstrap_recorded', $19::json)
    ) e (place, event_type, annotations)
    order by e.place
)
select turn_number from born
"""


@frozen
class Dispatched:
    """The turn of a dispatch; `is_new` is false for a replay."""

    turn: TurnRef
    is_new: bool


@frozen
class _Spawn:
    """A dispatch in the words of the table."""

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

    @property
    def parent_number(self) -> int | None:
        return None if self.parent is None else turn_number(self.parent.turn_id)


async def dispatch_turn(
    database: Database, request: Dispatch, *, lease: timedelta, may_dispatch_any: bool
) -> Dispatched:
    """Give an agent work, or find the turn that the same dispatch gave it before.

    Raises:
        NotFoundError, ConflictError, FencingError: in the order of protocol.md 6.4 and 8.3.
    """
    project_id, spawn = request.requested_by.project_id, _Spawn.of(request)
    parent, box_id = spawn.parent, keyed_box_id(project_id, spawn.write_key)
    number = await database.fetchval(
        DISPATCH_TURN,
        project_id,
        request.requested_by.agent_id,
        request.target_agent.agent_id,
        request.turn_kind,
        request.dispatch_key,
        spawn.cause_kind,
        spawn.cause_id,
        box_id,
        dumps(request.input).decode(),
        spawn.parent_number,
        parent and parent.agent_id,
        parent and hash_of(parent.token),
        may_dispatch_any,
        lease,
        new_record_id(),
        new_box_id(),
        card_metadata("bootstrap_bundle"),
        annotate(
            request.meta,
            requested_by=request.requested_by.agent_id,
            turn_kind=request.turn_kind,
            spawn_entrypoint=spawn.entrypoint,
        ),
        annotate(record_role="bootstrap"),
    )
    if number is not None:
        return Dispatched(TurnRef(project_id=project_id, turn_id=turn_id(number)), is_new=True)
    return Dispatched(await _replay(database, request, spawn, may_dispatch_any), is_new=False)


# ---------------------------------------------------------------- replays and refusals


FIND_SPAWNED = """
select t.*, r.payload as input
from cg_turns t
join cg_records r on r.project_id = t.project_id and r.turn_number = t.turn_number and r.turn_seq = 1
where t.project_id = $1 and t.spawn_key = $2
"""

FIND_AGENT = "select capabilities from cg_agents where project_id = $1 and agent_id = $2"


async def _replay(database: Database, request: Dispatch, spawn: _Spawn, may_dispatch_any: bool) -> TurnRef:
    """The turn this very dispatch gave before; refuse whatever stands against that, in the order given."""
    project_id = request.requested_by.project_id
    parent = None if spawn.parent is None else await find_claim(database, spawn.parent)
    found = await database.fetchrow(FIND_SPAWNED, project_id, request.dispatch_key)
    if found is not None and _has_same_box(found, request, spawn) and not _has_same_input(found, request):
        raise ConflictError(f"cardbox write_key conflict: {spawn.write_key}")
    capabilities = await _require_agents(database, request)
    if parent is not None and spawn.parent is not None:
        _check_parent(parent, spawn.parent, request, may_dispatch_any)
    if found is not None:
        _compare(found, request, spawn)
        return TurnRef(project_id=project_id, turn_id=turn_id(found["turn_number"]))
    if request.turn_kind.startswith("turn.") and request.turn_kind not in capabilities:
        target = request.target_agent.agent_id
        raise ConflictError(
            f"target agent {target} missing required capability for turn_kind {request.turn_kind}"
        )
    # What stood against it a moment ago is gone; nothing was changed.
    raise KernelOverloaded("the dispatch met another one, try again", retry_after_seconds=0.1)


async def _require_agents(database: Database, request: Dispatch) -> list[str]:
    capabilities: list[str] = []
    for agent in (request.requested_by, request.target_agent):
        row = await database.fetchrow(FIND_AGENT, agent.project_id, agent.agent_id)
        if row is None:
            raise NotFoundError(f"agent not found: {agent.agent_id}")
        capabilities = row["capabilities"]
    return capabilities


def _check_parent(row: Row, claim: ClaimToken, request: Dispatch, may_dispatch_any: bool) -> None:
    check_claim(row, claim)
    if request.requested_by.agent_id != claim.agent_id and not may_dispatch_any:
        raise FencingError("requested_by is not authorized to dispatch child for this parent claim")


def _has_same_box(found: Row, request: Dispatch, spawn: _Spawn) -> bool:
    return (found["target_agent_id"], found["cause_kind"], found["cause_id"]) == (
        request.target_agent.agent_id,
        spawn.cause_kind,
        spawn.cause_id,
    )


def _has_same_input(found: Row, request: Dispatch) -> bool:
    return digest(loads(found["input"])) == digest(request.input)


def _compare(found: Row, request: Dispatch, spawn: _Spawn) -> None:
    """A replay must be equal in all that is compared; the first difference is named."""
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
