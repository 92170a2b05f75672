"""Count the open turns, by project and by agent, for metrics (difference 10)."""

from __future__ import annotations

from attrs import frozen

from cgworker.kernel.store.postgres.database import Database


@frozen(kw_only=True)
class Backlog:
    """The open turns of a project in one state.

    Attributes:
        oldest_seconds: how long ago the oldest of them was dispatched, or became due if it was dispatched for
            later. Queued turns that are not due yet do not count.
        held_count: how many of them are under a lease that has not ended.
    """

    project_id: str
    state: str
    turn_count: int
    oldest_seconds: float
    held_count: int


# Reads no closed turns: the indexes cg_turns_open and cg_turns_running have none, and the oldest turn of each
# group is fetched by its key.
COUNT_OPEN_TURNS = """
with open_turns as materialized (
    select project_id, state, count(*) as turn_count,
        min(turn_number) filter (where state <> 'queued' or due_at is null) as oldest_number
    from cg_turns
    where state <> 'closed' and turn_number > 0
    group by project_id, state
), held as materialized (
    select project_id, count(*) as held_count
    from cg_turns
    where state = 'running' and claim_expires_at > cg_now()
    group by project_id
), busiest as (
    select project_id
    from open_turns
    group by project_id
    order by sum(turn_count) desc, project_id
    limit $1
)
select o.project_id, o.state, o.turn_count, coalesce(oldest.seconds, 0) as oldest_seconds,
    case when o.state = 'running' then coalesce(h.held_count, 0) else 0 end as held_count
from busiest
join open_turns o using (project_id)
left join held h using (project_id)
left join lateral (
    select greatest(0, extract(epoch from cg_now() - greatest(t.created_at, t.not_before)))::float8 as seconds
    from cg_turns t
    where t.project_id = o.project_id and t.turn_number = o.oldest_number
) oldest on true
order by o.project_id, o.state
"""


async def count_open_turns(database: Database, *, max_projects: int) -> list[Backlog]:
    """Count the open turns by project and state.

    Args:
        database: the kernel's database.
        max_projects: how many projects at most; those with the most open turns.
    """
    return [Backlog(**row) for row in await database.fetch(COUNT_OPEN_TURNS, max_projects)]


@frozen(kw_only=True)
class AgentBacklog:
    """The turns that one agent's workers have to do.

    Attributes:
        project_id: the agent's project; empty in the sum of all agents that are not counted by themselves.
        agent_id: the agent; empty in that sum.
        ready_count: turns that could be claimed now: not those that wait for an instant, or for their key.
        running_count: turns that are claimed.
    """

    project_id: str
    agent_id: str
    ready_count: int
    running_count: int


# Both counts are read from indexes alone: cg_turns_ready and cg_turns_running.
COUNT_TURNS_OF_AGENTS = """
with counted as (
    select project_id, target_agent_id as agent_id, count(*) as ready_count, 0 as running_count
    from cg_turns
    where cg_is_ready(state, due_at, waits_for_key)
    group by project_id, target_agent_id
    union all
    select project_id, target_agent_id, 0, count(*)
    from cg_turns
    where state = 'running'
    group by project_id, target_agent_id
), ranked as (
    select project_id, agent_id, sum(ready_count) as ready_count, sum(running_count) as running_count,
        row_number() over (order by sum(ready_count + running_count) desc, project_id, agent_id) as place
    from counted
    group by project_id, agent_id
)
select case when place <= $1 then project_id else '' end as project_id,
    case when place <= $1 then agent_id else '' end as agent_id,
    sum(ready_count)::bigint as ready_count, sum(running_count)::bigint as running_count
from ranked
group by 1, 2
"""


async def count_turns_of_agents(database: Database, *, max_agents: int) -> list[AgentBacklog]:
    """Count the turns that are ready or running by agent, and the sum of the agents that are left out.

    Args:
        database: the kernel's database.
        max_agents: how many agents are counted by themselves; those with the most of these turns.
    """
    return [AgentBacklog(**row) for row in await database.fetch(COUNT_TURNS_OF_AGENTS, max_agents)]
