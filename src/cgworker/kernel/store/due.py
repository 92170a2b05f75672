"""What is due by the kernel's clock: when it is, and the turns that wait for it (difference 30)."""

from __future__ import annotations

from attrs import frozen

from cgworker.kernel.store.annotations import annotate
from cgworker.kernel.store.ids import turn_ref
from cgworker.kernel.store.postgres.database import Database
from cgworker.wire.refs import AgentRef, TurnRef

_STATEMENTS = 25  # as many turns are listed at once as so many statements can take

# The closed projects are an array, here and below, since a join would have all that waits read and sorted.
FIND_NEXT_DUE = """
select extract(epoch from least(t.due_at, s.due_at) - cg_clock())::float8 as seconds,
    t.project_id, t.target_agent_id, t.state
from (select) one
left join lateral (
    select * from cg_turns
    where due_at is not null and turn_number > 0
        and project_id <> all (array(select project_id from cg_moves where closed_at is not null))
    order by due_at
    limit 1
) t on true
left join lateral (
    select due_at
    from cg_schedules
    where due_at is not null
        and project_id <> all (array(select project_id from cg_moves where closed_at is not null))
    order by due_at
    limit 1
) s on true
"""


@frozen
class NextDue:
    """What is due next.

    Attributes:
        seconds: how long until something is due; at most 0 if it is now, infinite if nothing will be.
        agent: the agent of the turn that is due next, if that is queued; else None.
    """

    seconds: float = float("inf")
    agent: AgentRef | None = None


async def next_due(database: Database) -> NextDue:
    """Return what is due next."""
    row = await database.fetchrow(FIND_NEXT_DUE)
    if row is None or row["seconds"] is None:
        return NextDue()
    is_queued = row["state"] == "queued"
    agent = AgentRef(project_id=row["project_id"], agent_id=row["target_agent_id"]) if is_queued else None
    return NextDue(row["seconds"], agent)


COUNT_DUE = """
select count(*) filter (where due_at > cg_now()) as later, count(*) filter (where due_at <= cg_now()) as now
from cg_turns
where due_at is not null and turn_number > 0
"""


async def count_due(database: Database) -> dict[str, int]:
    """Return how many turns wait for an instant that is to come (`later`), or has come (`now`)."""
    return dict(await database.fetchrow(COUNT_DUE) or {})


# Queues the turns that slept until now, and makes those ready that were dispatched for now. Several kernels
# may run it at once: it skips locked turns, and a turn that another has woken is due no longer.
#
# A turn that is ready now gets its place in the order of claims as if it were dispatched now (migration
# 0007); one that slept has its place in front.
_WAKE = """
), waiting as (
    -- Those that must still wait for an earlier turn of their serial key.
    select d.*, d.state = 'queued' and d.serial_key is not null and (
            cg_must_wait(d.project_id, d.target_agent_id, d.serial_key, d.turn_number) or row_number() over (
                partition by d.project_id, d.target_agent_id, d.serial_key, d.state
                order by d.turn_number) > 1
        ) as still_waits
    from due d
), placed as (
    -- The places of the others in the fair order.
    select w.*, f.fair_number + case when f.is_last then row_number() over (
            partition by w.project_id, w.target_agent_id, w.priority, w.fairness_key, f.is_last
            order by w.turn_number) - 1
        else 0 end as place
    from waiting w
    left join lateral cg_place(w.project_id, w.target_agent_id, w.priority, w.fairness_key, w.turn_number) f
        on w.state = 'queued' and not w.still_waits
), woken as (
    update cg_turns t
    set state = 'queued', due_at = null, waits_for_key = p.still_waits, fair_number = coalesce(p.place, 0),
        updated_at = case p.state when 'suspended' then cg_clock() else t.updated_at end
    from placed p
    where t.project_id = p.project_id and t.turn_number = p.turn_number
    returning t.*, p.state = 'suspended' as is_resumed
), logged as (
    insert into cg_ledger (project_id, event_type, subject_kind, subject_id, actor_kind, actor_id,
        cause_kind, cause_id, annotations, agent_id, turn_number)
    select project_id, 'turn.resumed', 'turn', 'T-' || turn_number, 'system', 'system',
        cause_kind, cause_id, $2::json, target_agent_id, turn_number
    from woken
    where is_resumed
    order by project_id, turn_number
)
select project_id, turn_number, target_agent_id, is_resumed
"""

# The turns of all projects that are due, the longest due first, by project. Only this list goes across
# projects.
LIST_DUE_TURNS = """
select project_id, array_agg(turn_number) as turn_numbers
from (
    select project_id, turn_number
    from cg_turns
    where due_at <= cg_now() and turn_number > 0
        and project_id <> all (array(select project_id from cg_moves where closed_at is not null))
    order by due_at
    limit $1
) due
group by project_id
order by project_id
"""

# The commit need not wait for the disk: what a crash undoes is still due afterwards.
WAKE_TURNS = (
    """
with due as (
    select *
    from cg_turns
    where project_id = $1 and turn_number = any ($3) and due_at <= cg_now()
    order by turn_number
    for no key update skip locked
"""
    + _WAKE
    + ", set_config('synchronous_commit', 'off', true) from woken"
)

# As WAKE_TURNS, for the queued turns of one agent, run by a claim that finds some. It waits for locked turns,
# which are being woken by another kernel.
WAKE_AGENT = (
    """
with due as (
    select *
    from cg_turns
    where project_id = $1 and target_agent_id = $3 and state = 'queued'
        and due_at <= cg_now()
    order by due_at
    limit 500
    for no key update
"""
    + _WAKE
    + " from woken"
)


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


async def wake_turns(database: Database, max_count: int) -> tuple[list[WokenTurn], bool]:
    """Let turns be claimed that are due now, project by project.

    Args:
        database: the kernel's database.
        max_count: how many turns one statement takes.

    Returns:
        The turns that were made ready, and whether more may be due.
    """
    listed_count = max_count * _STATEMENTS
    due = await database.fetch(LIST_DUE_TURNS, listed_count)
    woken = []
    for row in due:
        project_id, numbers = row["project_id"], row["turn_numbers"]
        for start in range(0, len(numbers), max_count):
            woken += await _wake(database, project_id, numbers[start : start + max_count])
    return woken, bool(woken) and sum(len(row["turn_numbers"]) for row in due) == listed_count


async def _wake(database: Database, project_id: str, turn_numbers: list[int]) -> list[WokenTurn]:
    rows = await database.fetch(WAKE_TURNS, project_id, annotate(reason="resume_at"), turn_numbers)
    return [
        WokenTurn(
            turn_ref(project_id, row["turn_number"]),
            AgentRef(project_id=project_id, agent_id=row["target_agent_id"]),
            row["is_resumed"],
        )
        for row in rows
    ]
