"""Agents: registration, presence, metadata, and whether they accept work (wire 6.2, 6.3)."""

from __future__ import annotations

from typing import Any

from cgworker.errors import ConflictError, NotFoundError
from cgworker.kernel.store.agent_specs import (
    MAX_INTEGER,
    check_at_most,
    check_new_id,
    check_registration,
    normal_set,
    normal_spec,
    require,
    spec_hash,
)
from cgworker.kernel.store.annotations import annotate
from cgworker.kernel.store.offers import has_offers, normal_metadata
from cgworker.kernel.store.postgres.database import Connection, Database, Row
from cgworker.kernel.store.turns import raw_json
from cgworker.wire.absent import ABSENT
from cgworker.wire.agents import (
    AgentSnapshot,
    AgentSpec,
    Provenance,
    ReplaceMetadata,
    SetAcceptsWork,
    UpdateAgent,
)
from cgworker.wire.converter import dumps
from cgworker.wire.refs import AgentRef
from cgworker.wire.refusals import Refusal

# ---------------------------------------------------------------- reading


GET_AGENT = "select * from cg_agents where project_id = $1 and agent_id = $2"


async def get_agent(database: Database | Connection, agent: AgentRef) -> AgentSnapshot:
    """Return the current state of an agent.

    Raises:
        NotFoundError: there is no such agent.
    """
    row = await database.fetchrow(GET_AGENT, agent.project_id, agent.agent_id)
    if row is None:
        raise NotFoundError(f"agent not found: {agent.agent_id}")
    return snapshot_of(row)


def snapshot_of(row: Row) -> AgentSnapshot:
    """Convert a row of cg_agents to a snapshot."""
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


# ---------------------------------------------------------------- registration


REGISTER_AGENT = """
with project as (
    insert into cg_projects (project_id) values ($1) on conflict do nothing
), born as (
    insert into cg_agents (project_id, agent_id, role, description, enabled, accepts_work, capacity,
        capabilities, grants, public_metadata, registered_by_agent_id, registration_provenance_kind,
        registration_provenance_ref, registration_provenance_payload_hash, admitted_spec_hash, has_offers)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::json, $11, $12, $13, $14, $15, $17)
    on conflict do nothing
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
    database: Database | Connection, registrar: AgentRef, spec: AgentSpec, provenance: Provenance
) -> AgentSnapshot:
    """Register a new agent.

    Raises:
        InvalidRequest: the id cannot be addressed, or a value cannot be stored (difference 11).
        ConflictError: the spec or provenance breaks a rule, or the agent exists already.
    """
    check_new_id(spec.agent_id, at=("body", "spec", "agent_id"))
    check_at_most(spec.capacity, MAX_INTEGER, at=("body", "spec", "capacity"))
    check_registration(spec, provenance)
    spec = normal_spec(spec)
    facts = {
        "registered_by_agent_id": registrar.agent_id,
        "registration_provenance_kind": provenance.kind,
        "registration_provenance_ref": provenance.external_ref,
        "registration_provenance_payload_hash": provenance.payload_hash,
        "admitted_spec_hash": spec_hash(spec),
    }
    row = await database.fetchrow(
        REGISTER_AGENT,
        registrar.project_id,
        spec.agent_id,
        spec.role,
        spec.description,
        spec.enabled,
        spec.accepts_work,
        spec.capacity,
        spec.capabilities,
        spec.grants,
        dumps(spec.public_metadata).decode(),
        *facts.values(),
        dumps(facts).decode(),  # the one event whose facts have no mirror under `system`
        has_offers(spec.public_metadata),
    )
    if row is None:
        raise ConflictError(f"agent already exists: {spec.agent_id}")
    return snapshot_of(row)


# ---------------------------------------------------------------- changes


SET_ACCEPTS_WORK = """
with changed as (
    update cg_agents
    set accepts_work = $3, updated_at = cg_clock()
    where project_id = $1 and agent_id = $2 and accepts_work <> $3 and (agent_id = $4 or $6)
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
    """Drain or resume an agent, and return whether that changed anything.

    Raises:
        NotFoundError: there is no such agent.
        FencingError: the caller is another agent and lacks the grant.
    """
    agent, actor_id = request.agent, request.requested_by.agent_id
    said = annotate(request.meta, accepts_work=accepts_work)
    changed = await database.fetchval(
        SET_ACCEPTS_WORK, agent.project_id, agent.agent_id, accepts_work, actor_id, said, may_update_any
    )
    if changed is None:
        await get_agent(database, agent)
        if agent.agent_id != actor_id and not may_update_any:
            raise Refusal.MAY_NOT_SET_ACCEPTS_WORK.error()
    return changed is not None


RENEW_PRESENCE = """
update cg_agents set last_seen_at = cg_clock() where project_id = $1 and agent_id = $2
"""


async def renew_presence(database: Database, agent: AgentRef) -> None:
    """Note that the agent is alive, without an event or a change of updated_at."""
    await database.execute(RENEW_PRESENCE, agent.project_id, agent.agent_id)


REPLACE_METADATA = """
update cg_agents
set public_metadata = $3::json, has_offers = $4, updated_at = cg_clock()
where project_id = $1 and agent_id = $2
"""


async def replace_metadata(database: Database, request: ReplaceMetadata) -> None:
    """Replace the agent's public metadata as a whole.

    Raises:
        ConflictError: the metadata breaks a rule of wire 9.
    """
    agent, metadata = request.agent, normal_metadata(request.public_metadata)
    await database.execute(
        REPLACE_METADATA,
        agent.project_id,
        agent.agent_id,
        dumps(metadata).decode(),
        has_offers(metadata),
    )


UPDATE_AGENT = """
with changed as (
    update cg_agents
    set capacity = coalesce($3, capacity), enabled = coalesce($4, enabled),
        capabilities = coalesce($5, capabilities), grants = coalesce($6, grants),
        updated_at = cg_clock()
    where project_id = $1 and agent_id = $2
        and (capacity, enabled, capabilities, grants) is distinct from (
            coalesce($3, capacity), coalesce($4, enabled), coalesce($5, capabilities), coalesce($6, grants))
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
    """Change what an agent was registered with; absent fields stay (difference 3).

    Raises:
        NotFoundError: there is no such agent.
        ConflictError, InvalidRequest: a value breaks a rule of registration.
    """
    changes = _changes_of(update)
    agent = update.agent
    row = await database.fetchrow(
        UPDATE_AGENT,
        agent.project_id,
        agent.agent_id,
        changes.get("capacity"),
        changes.get("enabled"),
        changes.get("capabilities"),
        changes.get("grants"),
        update.requested_by.agent_id,
        annotate(update.meta, **changes),
    )
    return await get_agent(database, agent) if row is None else snapshot_of(row)


def _changes_of(update: UpdateAgent) -> dict[str, Any]:
    """Return the given fields in their normal form."""
    changes: dict[str, Any] = {}
    if update.capacity is not ABSENT:
        require(update.capacity > 0, "agent capacity must be positive")
        check_at_most(update.capacity, MAX_INTEGER, at=("body", "capacity"))
        changes["capacity"] = update.capacity
    if update.enabled is not ABSENT:
        changes["enabled"] = update.enabled
    if update.capabilities is not ABSENT:
        require(all(update.capabilities), "agent capabilities must contain non-empty strings")
        changes["capabilities"] = normal_set(update.capabilities)
    if update.grants is not ABSENT:
        require(all(update.grants), "agent grants must contain non-empty strings")
        changes["grants"] = normal_set(update.grants)
    return changes
