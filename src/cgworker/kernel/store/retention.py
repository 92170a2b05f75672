"""Remove what is older than a kernel keeps (difference 36): the same as `purge`, in small steps."""

from __future__ import annotations

from attrs import evolve, frozen

from cgworker.kernel.store.postgres.database import Database

# The projects, one after the other. Only this list goes across projects.
FIND_NEXT_PROJECT = """
select min(project_id)
from cg_projects
where project_id > $1
    and not exists (select from cg_moves where project_id = cg_projects.project_id and closed_at is not null)
"""

# Looks at some turns of a project in the order of their numbers, and removes the old ones with their records,
# events and dispatch keys. No index tells which are old: it would cost each finish more than this walk. The
# events of closed turns have been numbered by now, which lets an index find them.
REMOVE_OLD_TURNS = """
with seen as (
    select project_id, turn_number, spawn_key,
        state = 'closed' and closed_at < cg_now() - make_interval(secs => $3) as is_old
    from cg_turns
    where project_id = $1 and turn_number > $2
    order by turn_number
    limit $4
), doomed as (
    select s.project_id, s.turn_number, s.spawn_key
    from seen s
    cross join lateral (
        select
        from cg_turns
        where project_id = s.project_id and turn_number = s.turn_number
        for update skip locked
    ) t
    where s.is_old
), records as (
    delete from cg_records r using doomed d
    where r.project_id = d.project_id and r.turn_number = d.turn_number
), events as (
    delete from cg_ledger e using doomed d
    where e.project_id = d.project_id and e.turn_number = d.turn_number
        and e.ledger_seq is not null and e.turn_number is not null
), spawns as (
    delete from cg_spawns s using doomed d where s.project_id = d.project_id and s.spawn_key = d.spawn_key
), turns as (
    delete from cg_turns t using doomed d where t.project_id = d.project_id and t.turn_number = d.turn_number
    returning 1
)
select max(turn_number) as turn_number, count(*) as seen_count, (select count(*) from turns) as removed_count
from seen
"""

REMOVE_OLD_CREDENTIALS = """
delete from cg_credentials
where project_id = $1 and status = 'revoked' and revoked_at < cg_now() - make_interval(secs => $2)
"""


@frozen
class Position:
    """The turn up to which a walk over all projects has come."""

    project_id: str = ""
    turn_number: int = 0


async def remove_old(
    database: Database, after: Position, older_than_seconds: float, *, max_count: int
) -> tuple[Position, int]:
    """Remove the old ones of some turns after a position, and the old credentials of projects that it passes.

    Args:
        database: the kernel's database.
        after: where to begin.
        older_than_seconds: how long ago a turn was closed, or a credential revoked, that goes.
        max_count: how many turns are looked at; a project counts as one too.

    Returns:
        Where to go on, which is the beginning when the end has been reached, and how many turns are gone.
    """
    removed_count = 0
    while max_count > 0:
        if not after.turn_number:
            following = await database.fetchval(FIND_NEXT_PROJECT, after.project_id)
            if following is None:
                return Position(), removed_count
            after = Position(following)
        row = await database.fetchrow(
            REMOVE_OLD_TURNS, after.project_id, after.turn_number, older_than_seconds, max_count
        )
        assert row is not None
        removed_count += row["removed_count"]
        after = evolve(after, turn_number=row["turn_number"] or 0)
        if row["seen_count"] < max_count:  # these were the last of the project
            await database.execute(REMOVE_OLD_CREDENTIALS, after.project_id, older_than_seconds)
            after = evolve(after, turn_number=0)
        max_count -= row["seen_count"] + 1
    return after, removed_count
