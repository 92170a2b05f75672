"""What is due by the kernel's clock: turns that waited for an instant (difference 30)."""

from __future__ import annotations

from attrs import frozen

from cgworker.kernel.store.annotations import annotate
from cgworker.kernel.store.ids import turn_ref
from cgworker.kernel.store.postgres.database import Database
from cgworker.wire.refs import AgentRef, TurnRef

SECONDS_TO_NEXT = """
select extract(epoch from due_at - cg_clock())::float8
from cg_turns
where due_at is not null and turn_number > 0
order by due_at
limit 1
"""


async def seconds_to_next(database: Database) -> float | None:
    """Return how long until something is due; at most 0 if it is now, None if nothing will be."""
    seconds: float | None = await database.fetchval(SECONDS_TO_NEXT)
    return seconds


# Queues the turns that slept until now, and lets those be claimed that were dispatched for now. Several
# kernels may run it at once: it skips locked turns, and a turn that another has woken is due no longer.
WAKE_TURNS = """
with due as (
    select project_id, turn_number, state
    from cg_turns
    where due_at <= cg_now() and turn_number > 0
    order by due_at
    limit $1
    for no key update skip locked
), woken as (
    update cg_turns t
    set state = 'queued', due_at = null,
        updated_at = case d.state when 'suspended' then cg_clock() else t.updated_at end
    from due d
    where t.project_id = d.project_id and t.turn_number = d.turn_number
    returning t.*, d.state = 'suspended' as is_resumed
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, agent_id, turn_number)
    select project_id, 'turn.resumed', 'turn', 'T-' || turn_number, 'system', 'system',
        cause_kind, cause_id, $2::json, target_agent_id, turn_number
    from woken
    where is_resumed
    order by project_id, turn_number
)
select project_id, turn_number, target_agent_id, is_resumed from woken
"""


@frozen
class WokenTurn:
    """A turn that was due.

    Attributes:
        turn: the turn.
        agent: the agent that can claim it now.
        is_resumed: whether it was suspended; else it was queued, and its state is as before.
    """

    turn: TurnRef
    agent: AgentRef
    is_resumed: bool


async def wake_turns(database: Database, max_count: int) -> list[WokenTurn]:
    """Let up to `max_count` turns be claimed that are due now, the longest due first; return them."""
    rows = await database.fetch(WAKE_TURNS, max_count, annotate(reason="resume_at"))
    return [
        WokenTurn(
            turn_ref(row["project_id"], row["turn_number"]),
            AgentRef(project_id=row["project_id"], agent_id=row["target_agent_id"]),
            row["is_resumed"],
        )
        for row in rows
    ]
