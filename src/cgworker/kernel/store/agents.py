"""Agents: birth, presence, metadata, whether they accept work (protocol.md 6.2, 6.3)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

import asyncpg
from attrs import evolve

from cgworker.errors import ConflictError, FencingError, InvalidRequest, NotFoundError
from cgworker.kernel.store.annotations import annotate
from cgworker.kernel.store.offers import normal_metadata
from cgworker.kernel.store.postgres import Database, Row
from cgworker.kernel.store.turns import raw_json
from cgworker.wire.agents import (
    AgentSnapshot,
    AgentSpec,
    Provenance,
    ReplaceMetadata,
    SetAcceptsWork,
    UpdateAgent,
)
from cgworker.wire.converter import ABSENT, dumps
from cgworker.wire.refs import AgentRef

_LONGEST_ID = 200
_NOT_IN_IDS = re.compile(r"[/\x00-\x1f\x7f-\x9f\ud800-\udfff]")

# ---------------------------------------------------------------- reading


GET_AGENT = "select * from cg_agents where project_id = $1 and agent_id = $2"


async def get_agent(database: Database, agent: AgentRef) -> AgentSnapshot:
    """The agent as it stands.

    Raises:
        NotFoundError: there is no such agent.
    """
    row = await database.fetchrow(GET_AGENT, agent.project_id, agent.agent_id)
    if row is None:
        raise NotFoundError(f"agent not found: {agent.agent_id}")
    return snapshot_of(row)


def snapshot_of(row: Row) -> AgentSnapshot:
    """A row of cg_agents as a snapshot."""
    return AgentSnapshot(
        agent=AgentRef(project_id=row["project_id"], agent_id=row["agent_id"]),
        enabled=row["enabled"],
        accepts_work=row["accepts_work"],
        capacity=row["capacity"],
        capabilities=tuple(row["capabilities"]),
        grants=tuple(row["grants"]),
        public_metadata=raw_json(row["public_metadata"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        last_seen_at=row["last_seen_at"],
        role=row["role"],
        description=row["description"],
        registered_by_agent_id=row["registered_by_agent_id"],
        registration_provenance_kind=row["registration_provenance_kind"],
        registration_provenance_ref=row["registration_provenance_ref"],
        registration_provenance_payload_hash=row["registration_provenance_payload_hash"],
        admitted_spec_hash=row["admitted_spec_hash"],
    )


# ---------------------------------------------------------------- birth


REGISTER_AGENT = """
with project as (
    insert into cg_projects (project_id) values ($1) on conflict do nothing
), born as (
    insert into cg_agents (project_id, agent_id, role, description, enabled, accepts_work, capacity,
        capabilities, grants, public_metadata, registered_by_agent_id, registration_provenance_kind,
        registration_provenance_ref, registration_provenance_payload_hash, admitted_spec_hash)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::json, $11, $12, $13, $14, $15)
    returning *
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        annotations, agent_id)
    select project_id, 'agent.registered', 'agent', agent_id, 'agent', $11, $16::json, agent_id
    from born
)
select * from born
"""


async def register_agent(
    database: Database, registrar: AgentRef, spec: AgentSpec, provenance: Provenance
) -> AgentSnapshot:
    """Register a new agent.

    Raises:
        ConflictError: the spec or provenance breaks a rule, or the agent exists already.
        InvalidRequest: its id cannot be addressed (decision 11).
    """
    spec = normal_spec(spec)
    _check_provenance(provenance)
    check_id(registrar.project_id, "project_id")
    check_id(spec.agent_id, "agent_id")
    facts = {
        "registered_by_agent_id": registrar.agent_id,
        "registration_provenance_kind": provenance.kind,
        "registration_provenance_ref": provenance.external_ref,
        "registration_provenance_payload_hash": provenance.payload_hash,
        "admitted_spec_hash": spec_hash(spec),
    }
    try:
        row = await database.fetchrow(
            REGISTER_AGENT,
            registrar.project_id,
            spec.agent_id,
            spec.role,
            spec.description,
            spec.enabled,
            spec.accepts_work,
            spec.capacity,
            list(spec.capabilities),
            list(spec.grants),
            dumps(spec.public_metadata).decode(),
            *facts.values(),
            dumps(facts).decode(),  # the one event whose facts have no mirror under `system`
        )
    except asyncpg.UniqueViolationError as taken:
        raise ConflictError(f"agent already exists: {spec.agent_id}") from taken
    assert row is not None
    return snapshot_of(row)


def normal_spec(spec: AgentSpec) -> AgentSpec:
    """The spec with sorted sets and completed offers.

    Raises:
        ConflictError: in the order and words of protocol.md 6.2.
    """
    _require(bool(spec.agent_id.strip()), "agent birth spec agent_id must be non-empty")
    _require(bool(spec.role.strip()), "agent birth spec role must be non-empty")
    _require(0 < spec.capacity < 2**31, "agent birth spec capacity must be positive")
    _check_strings(spec.capabilities, "capabilities")
    _check_strings(spec.grants, "grants")
    return evolve(
        spec,
        capabilities=tuple(sorted(set(spec.capabilities))),
        grants=tuple(sorted(set(spec.grants))),
        public_metadata=normal_metadata(spec.public_metadata),
    )


def spec_hash(spec: AgentSpec) -> str:
    """`admitted_spec_hash` of a normal spec; admission compares it bit for bit (protocol.md 6.2)."""
    facts = {
        "accepts_work": spec.accepts_work,
        "agent_id": spec.agent_id,
        "capabilities": list(spec.capabilities),
        "capacity": spec.capacity,
        "description": spec.description,
        "enabled": spec.enabled,
        "grants": list(spec.grants),
        "public_metadata": spec.public_metadata,
        "role": spec.role,
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_id(id: str, name: str) -> None:
    """Refuse a new id that no URL could address (decision 11)."""
    if len(id) <= _LONGEST_ID and id not in (".", "..") and not _NOT_IN_IDS.search(id):
        return
    msg = (
        f"Value error, {name} must have at most {_LONGEST_ID} characters, "
        "none of them '/' or a control character, and not be '.' or '..'"
    )
    raise InvalidRequest([{"type": "value_error", "loc": ["body", "spec", name], "msg": msg}])


def _check_provenance(provenance: Provenance) -> None:
    _require(bool(provenance.kind.strip()), "registration provenance kind must be non-empty")
    _require(bool(provenance.external_ref.strip()), "registration provenance external_ref must be non-empty")
    has_hash = provenance.payload_hash is None or bool(provenance.payload_hash.strip())
    _require(has_hash, "registration provenance payload_hash must be non-empty when provided")


def _check_strings(values: Iterable[str], name: str) -> None:
    is_good = all(value.strip() for value in values)
    _require(is_good, f"agent birth spec {name} must contain non-empty strings")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConflictError(message)


# ---------------------------------------------------------------- what changes later


SET_ACCEPTS_WORK = """
with changed as (
    update cg_agents
    set accepts_work = $3, updated_at = clock_timestamp()
    where project_id = $1 and agent_id = $2 and accepts_work <> $3
    returning *
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        annotations, agent_id)
    select project_id, case when $3 then 'agent.resumed' else 'agent.drained' end, 'agent', agent_id,
        'agent', $4, $5::json, agent_id
    from changed
)
select agent_id from changed
"""


async def set_accepts_work(
    database: Database, request: SetAcceptsWork, accepts_work: bool, *, may_update_any: bool
) -> bool:
    """Drain or resume an agent; returns whether that changed anything.

    Raises:
        NotFoundError: there is no such agent.
        FencingError: it is another agent, and the caller lacks the grant.
    """
    agent, actor = request.agent, request.requested_by
    await get_agent(database, agent)
    if agent != actor and not may_update_any:
        raise FencingError("requested_by is not authorized to update agent accepts_work")
    said = annotate(request.meta, accepts_work=accepts_work)
    changed = await database.fetchval(
        SET_ACCEPTS_WORK, agent.project_id, agent.agent_id, accepts_work, actor.agent_id, said
    )
    return changed is not None


RENEW_PRESENCE = """
update cg_agents set last_seen_at = clock_timestamp() where project_id = $1 and agent_id = $2
"""


async def renew_presence(database: Database, agent: AgentRef) -> None:
    """Note that the agent is alive; no event, and updated_at stays."""
    await database.execute(RENEW_PRESENCE, agent.project_id, agent.agent_id)


REPLACE_METADATA = """
update cg_agents
set public_metadata = $3::json, updated_at = clock_timestamp()
where project_id = $1 and agent_id = $2
"""


async def replace_metadata(database: Database, request: ReplaceMetadata) -> None:
    """Replace the agent's public metadata as a whole.

    Raises:
        ConflictError: it breaks a rule of protocol.md 9.
    """
    metadata = dumps(normal_metadata(request.public_metadata)).decode()
    agent = request.agent
    await database.execute(REPLACE_METADATA, agent.project_id, agent.agent_id, metadata)


UPDATE_AGENT = """
with changed as (
    update cg_agents
    set capacity = coalesce($3, capacity), enabled = coalesce($4, enabled),
        capabilities = coalesce($5, capabilities), grants = coalesce($6, grants),
        updated_at = clock_timestamp()
    where project_id = $1 and agent_id = $2
    returning *
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        annotations, agent_id)
    select project_id, 'agent.updated', 'agent', agent_id, 'agent', $7, $8::json, agent_id
    from changed
)
select * from changed
"""


async def update_agent(database: Database, update: UpdateAgent) -> AgentSnapshot:
    """Change what an agent was born with; what is absent stays (decision 3).

    Raises:
        NotFoundError: there is no such agent.
        ConflictError: a value breaks a rule of birth.
    """
    facts = _changes_of(update)
    agent = update.agent
    row = await database.fetchrow(
        UPDATE_AGENT,
        agent.project_id,
        agent.agent_id,
        facts.get("capacity"),
        facts.get("enabled"),
        facts.get("capabilities"),
        facts.get("grants"),
        update.requested_by.agent_id,
        annotate(update.meta, **facts),
    )
    if row is None:
        raise NotFoundError(f"agent not found: {agent.agent_id}")
    return snapshot_of(row)


def _changes_of(update: UpdateAgent) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if update.capacity is not ABSENT:
        _require(0 < update.capacity < 2**31, "agent capacity must be positive")
        changes["capacity"] = update.capacity
    if update.enabled is not ABSENT:
        changes["enabled"] = update.enabled
    if update.capabilities is not ABSENT:
        _check_strings(update.capabilities, "capabilities")
        changes["capabilities"] = sorted(set(update.capabilities))
    if update.grants is not ABSENT:
        _check_strings(update.grants, "grants")
        changes["grants"] = sorted(set(update.grants))
    return changes
