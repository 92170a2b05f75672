"""Reconcile expired claims: queue the turns again whose lease has ended."""

from __future__ import annotations

from cgworker.kernel.store.annotations import annotate
from cgworker.kernel.store.ids import turn_ref
from cgworker.kernel.store.postgres.database import Database
from cgworker.wire.claims import ReconcileExpired
from cgworker.wire.refs import AgentRef, TurnRef

# Waits for locked turns, which are being settled, stopped or reconciled: the caller wants to know what is
# left afterwards. Locks turns in the order of their numbers, as all statements do, to avoid deadlocks.
RECONCILE_AGENT = """
with ended as (
    -- Lock the agent's turns whose lease has ended.
    select project_id, turn_number
    from cg_turns
    where project_id = $1 and claim_expires_at <= cg_clock()
        and turn_number = any (array(
            select turn_number
            from cg_turns
            where project_id = $1 and target_agent_id = $2 and state = 'running'
                and claim_expires_at <= cg_clock()
        ))
    order by turn_number
    for no key update
), given_back as (
    update cg_turns t
    set state = 'queued', claim_agent_id = null, claim_token_hash = null, claim_expires_at = null,
        attempt = t.attempt + 1, updated_at = cg_clock()
    from ended e
    where t.project_id = e.project_id and t.turn_number = e.turn_number
    returning t.*
), freed as (
    update cg_agents a
    set held_count = a.held_count - (select count(*) from given_back)
    where a.project_id = $1 and a.agent_id = $2 and exists (select from given_back)
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, agent_id, turn_number)
    select project_id, 'turn.claim_reconciled', 'turn', 'T-' || turn_number, 'agent', $2,
        cause_kind, cause_id, $3::json, target_agent_id, turn_number
    from given_back
    order by turn_number
)
select turn_number from given_back
"""


async def reconcile_agent(
    database: Database, agent: AgentRef, request: ReconcileExpired
) -> list[tuple[TurnRef, AgentRef]]:
    """Queue the agent's turns whose lease has ended, and return them with their agent."""
    said = annotate(request.meta)
    rows = await database.fetch(RECONCILE_AGENT, agent.project_id, agent.agent_id, said)
    return [(turn_ref(agent.project_id, row["turn_number"]), agent) for row in rows]


# The projects with turns whose lease has ended, the longest ended first. Only this list goes across projects.
LIST_PROJECTS_WITH_ENDED_LEASES = """
select project_id
from cg_turns
where state = 'running' and claim_expires_at <= cg_now()
    and not exists (select from cg_moves where project_id = cg_turns.project_id and closed_at is not null)
group by project_id
order by min(claim_expires_at)
"""

# Reconciles turns of a project, the longest expired first. Several kernels may run it at once: it skips
# locked turns. The commit need not wait for the disk: a lease that a crash restores has ended afterwards too.
RECONCILE_BATCH = """
with ended as (
    -- Lock a batch of turns whose lease has ended.
    select project_id, turn_number
    from cg_turns
    where project_id = $1 and state = 'running' and claim_expires_at <= cg_now()
    order by claim_expires_at
    limit $3
    for no key update skip locked
), given_back as (
    update cg_turns t
    set state = 'queued', claim_agent_id = null, claim_token_hash = null, claim_expires_at = null,
        attempt = t.attempt + 1, updated_at = cg_clock()
    from ended e
    where t.project_id = e.project_id and t.turn_number = e.turn_number
    returning t.*
), holders as (
    -- Lock the agents, in the order of their ids, and count their slots to free.
    select h.project_id, h.agent_id, h.freed_count
    from (
        select project_id, target_agent_id as agent_id, count(*) as freed_count
        from given_back
        group by project_id, target_agent_id
        order by project_id, target_agent_id
    ) h
    cross join lateral (
        select from cg_agents where project_id = h.project_id and agent_id = h.agent_id for no key update
    ) a
), freed as (
    update cg_agents a
    set held_count = a.held_count - h.freed_count
    from holders h
    where a.project_id = h.project_id and a.agent_id = h.agent_id
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, note, annotations, agent_id, turn_number)
    select project_id, 'turn.claim_reconciled', 'turn', 'T-' || turn_number, 'system', 'system',
        cause_kind, cause_id, 'service-owned claim reaper', $2::json, target_agent_id, turn_number
    from given_back
    order by project_id, turn_number
)
select project_id, turn_number, target_agent_id, set_config('synchronous_commit', 'off', true)
from given_back
"""

_REAPER_FACTS = {
    "note": "service-owned claim reaper",
    "reason": "service_claim_reaper",
    "owner": "service",
}


async def list_projects_with_ended_leases(database: Database) -> list[str]:
    """Return the projects with turns whose lease has ended, the longest ended first."""
    return [row["project_id"] for row in await database.fetch(LIST_PROJECTS_WITH_ENDED_LEASES)]


async def reconcile_batch(
    database: Database, project_id: str, max_count: int
) -> list[tuple[TurnRef, AgentRef]]:
    """Queue up to `max_count` turns of a project whose lease has ended, and return them with their agents."""
    rows = await database.fetch(RECONCILE_BATCH, project_id, annotate(**_REAPER_FACTS), max_count)
    return [
        (
            turn_ref(project_id, row["turn_number"]),
            AgentRef(project_id=project_id, agent_id=row["target_agent_id"]),
        )
        for row in rows
    ]
