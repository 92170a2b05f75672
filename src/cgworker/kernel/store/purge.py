"""Purge old data, on an operator's request only (difference 14)."""

from __future__ import annotations

from attrs import frozen

from cgworker.kernel.store.postgres.database import Database

_BATCH = 500


@frozen(kw_only=True)
class Purged:
    """The numbers of removed rows."""

    turn_count: int = 0
    record_count: int = 0
    event_count: int = 0
    key_count: int = 0
    credential_count: int = 0


# Removes the dispatch keys with their turns, so the same dispatch then creates a new turn. Removes the events
# of the turns from all feeds too, so a feed that is read from its beginning starts after the gap.
PURGE_TURNS = """
with doomed as (
    select turn_number, spawn_key
    from cg_turns
    where project_id = $1 and state = 'closed' and closed_at < cg_now() - make_interval(secs => $2)
    order by turn_number
    limit $3
    for update skip locked
),
records as (
    delete from cg_records using doomed
    where cg_records.project_id = $1 and cg_records.turn_number = doomed.turn_number
    returning 1
),
events as (
    delete from cg_ledger using doomed
    where cg_ledger.project_id = $1 and cg_ledger.turn_number = doomed.turn_number
    returning 1
),
spawns as (
    delete from cg_spawns using doomed
    where cg_spawns.project_id = $1 and cg_spawns.spawn_key = doomed.spawn_key
),
turns as (
    delete from cg_turns using doomed
    where cg_turns.project_id = $1 and cg_turns.turn_number = doomed.turn_number
    returning 1
)
select
    (select count(*) from turns) as turn_count,
    (select count(*) from records) as record_count,
    (select count(*) from events) as event_count
"""

PURGE_KEYS = """
with gone as (
    delete from cg_idempotency_keys
    where project_id = $1 and created_at < cg_now() - make_interval(secs => $2)
    returning 1
)
select count(*) from gone
"""

PURGE_CREDENTIALS = """
with gone as (
    delete from cg_credentials
    where project_id = $1 and status = 'revoked' and revoked_at < cg_now() - make_interval(secs => $2)
    returning 1
)
select count(*) from gone
"""


COUNT_PURGEABLE = """
with doomed as (
    select turn_number
    from cg_turns
    where project_id = $1 and state = 'closed' and closed_at < cg_now() - make_interval(secs => $2)
)
select
    (select count(*) from doomed) as turn_count,
    (select count(*) from cg_records join doomed using (turn_number) where project_id = $1) as record_count,
    (select count(*) from cg_ledger join doomed using (turn_number) where project_id = $1) as event_count,
    (
        select count(*) from cg_idempotency_keys
        where project_id = $1 and created_at < cg_now() - make_interval(secs => $2)
    ) as key_count,
    (
        select count(*) from cg_credentials
        where project_id = $1 and status = 'revoked' and revoked_at < cg_now() - make_interval(secs => $2)
    ) as credential_count
"""


async def count_purgeable(database: Database, project_id: str, older_than_seconds: float) -> Purged:
    """Return how much `purge` would remove now, without removing it."""
    row = await database.fetchrow(COUNT_PURGEABLE, project_id, older_than_seconds)
    assert row is not None
    return Purged(**row)


async def purge(database: Database, project_id: str, older_than_seconds: float) -> Purged:
    """Remove a project's old turns, idempotency keys and revoked credentials.

    A turn's records, events and spawn key go with it. Turns go in batches, each its own transaction, so
    that a kernel can work meanwhile.

    Args:
        database: the kernel's database.
        project_id: the project.
        older_than_seconds: remove turns that were closed, keys that were used and credentials that were
            revoked longer ago than this.
    """
    turns = records = events = 0
    while True:
        row = await database.fetchrow(PURGE_TURNS, project_id, older_than_seconds, _BATCH)
        assert row is not None
        turns += row["turn_count"]
        records += row["record_count"]
        events += row["event_count"]
        if row["turn_count"] < _BATCH:
            break
    return Purged(
        turn_count=turns,
        record_count=records,
        event_count=events,
        key_count=await database.fetchval(PURGE_KEYS, project_id, older_than_seconds),
        credential_count=await database.fetchval(PURGE_CREDENTIALS, project_id, older_than_seconds),
    )
