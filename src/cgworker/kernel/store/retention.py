"""Remove what is older than a kernel keeps (difference 36): the same as `purge`, in small steps."""

from __future__ import annotations

from attrs import evolve, frozen

from cgworker.kernel.store.postgres.database import Database
from cgworker.kernel.store.purge import PURGE_CREDENTIALS, REMOVE_OLD_TURNS

# The projects, one after the other. Only this list goes across projects.
FIND_NEXT_PROJECT = """
select min(project_id)
from cg_projects
where project_id > $1
    and not exists (select from cg_moves where project_id = cg_projects.project_id and closed_at is not null)
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
        removed_count += row["turn_count"]
        after = evolve(after, turn_number=row["turn_number"] or 0)
        if row["seen_count"] < max_count:  # these were the last of the project
            await database.fetchval(PURGE_CREDENTIALS, after.project_id, older_than_seconds)
            after = evolve(after, turn_number=0)
        max_count -= row["seen_count"] + 1
    return after, removed_count
