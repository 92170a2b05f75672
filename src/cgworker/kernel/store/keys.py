"""Forget old Idempotency-Keys (difference 4)."""

from __future__ import annotations

from cgworker.kernel.store.postgres.database import Database, Row

_BATCH = 10_000

# Keys of all projects, the oldest first, by project. Only this list goes across projects.
LIST_OLD_KEYS = """
select project_id, array_agg(agent_id) as agent_ids, array_agg(route) as routes, array_agg(key) as keys
from (
    select project_id, agent_id, route, key
    from cg_idempotency_keys
    where created_at < cg_now() - make_interval(secs => $1)
        and not exists (
            select from cg_moves where project_id = cg_idempotency_keys.project_id and closed_at is not null
        )
    order by created_at
    limit $2
) old
group by project_id
order by project_id
"""

# One key each time, which PostgreSQL finds by all of it, whatever it knows of the table.
FORGET_KEY = """
delete from cg_idempotency_keys
where project_id = $1 and agent_id = $2 and route = $3 and key = $4
    and created_at < cg_now() - make_interval(secs => $5)
"""


async def forget_keys(database: Database, older_than_seconds: float) -> None:
    """Delete the keys that were used longer ago than this, project by project."""
    while True:
        old = await database.fetch(LIST_OLD_KEYS, older_than_seconds, _BATCH)
        for row in old:
            await _forget(database, row, older_than_seconds)
        if sum(len(row["keys"]) for row in old) < _BATCH:
            return


async def _forget(database: Database, old: Row, older_than_seconds: float) -> None:
    keys = zip(old["agent_ids"], old["routes"], old["keys"], strict=True)
    rows = [(old["project_id"], *key, older_than_seconds) for key in keys]
    await database.transact(lambda connection: connection.executemany(FORGET_KEY, rows))
