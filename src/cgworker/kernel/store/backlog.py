"""Count the open turns, for metrics (difference 10)."""

from __future__ import annotations

from attrs import frozen

from cgworker.kernel.store.postgres.database import Database


@frozen(kw_only=True)
class Backlog:
    """The open turns of a project in one state.

    Attributes:
        oldest_seconds: how long ago the oldest of them was dispatched.
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
    select project_id, state, count(*) as turn_count, min(turn_number) as oldest_number
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
select o.project_id, o.state, o.turn_count, oldest.seconds as oldest_seconds,
    case when o.state = 'running' then coalesce(h.held_count, 0) else 0 end as held_count
from busiest
join open_turns o using (project_id)
left join held h using (project_id)
cross join lateral (
    select greatest(0, extract(epoch from cg_now() - t.created_at))::float8 as seconds
    from cg_turns t
    where t.project_id = o.project_id and t.turn_number = o.oldest_number
) oldest
order by o.project_id, o.state
"""


async def count_open_turns(database: Database, *, max_projects: int) -> list[Backlog]:
    """Count the open turns by project and state.

    Args:
        database: the kernel's database.
        max_projects: how many projects at most; those with the most open turns.
    """
    return [Backlog(**row) for row in await database.fetch(COUNT_OPEN_TURNS, max_projects)]
