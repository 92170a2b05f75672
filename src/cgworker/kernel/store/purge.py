"""Purge old data, on an operator's request only (difference 14)."""

from __future__ import annotations

from attrs import frozen

from cgworker.kernel.store.ledger import number_events
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


# Looks at some turns of a project in the order of their numbers, and removes the old ones with their records,
# events and dispatch keys. No index tells which are old: it would cost each finish more than this walk. The
# events have been numbered by now, which lets an index find them; arrays make PostgreSQL use it, whatever it
# knows of the table.
#
# Without its dispatch key, the same dispatch then creates a new turn. The events go from all feeds too, so a
# feed that is read from its beginning starts after the gap.
REMOVE_OLD_TURNS = """
with seen as (
    select turn_number, spawn_key,
        state = 'closed' and closed_at < cg_now() - make_interval(secs => $3) as is_old
    from cg_turns
    where project_id = $1 and turn_number > $2
    order by turn_number
    limit $4
), doomed as (
    select s.turn_number, s.spawn_key
    from seen s
    cross join lateral (
        select from cg_turns where project_id = $1 and turn_number = s.turn_number for update skip locked
    ) t
    where s.is_old
), records as (
    delete from cg_records
    where project_id = $1 and turn_number = any (array(select turn_number from doomed))
    returning 1
), events as (
    delete from cg_ledger
    where project_id = $1 and turn_number = any (array(select turn_number from doomed))
        and ledger_seq is not null and turn_number is not null
    returning 1
), spawns as (
    delete from cg_spawns where project_id = $1 and spawn_key = any (array(select spawn_key from doomed))
), turns as (
    delete from cg_turns where project_id = $1 and turn_number = any (array(select turn_number from doomed))
    returning 1
)
select max(turn_number) as turn_number, count(*) as seen_count,
    (select count(*) from turns) as turn_count,
    (select count(*) from records) as record_count,
    (select count(*) from events) as event_count
from seen
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
    (select count(*) from cg_ledger join doomed using (turn_number)
        where project_id = $1 and ledger_seq is not null) as event_count,
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
    await number_events(database, project_id)
    [row] = await database.fetch_planned(COUNT_PURGEABLE, project_id, older_than_seconds)
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
    after = turns = records = events = 0
    while after is not None:
        await number_events(database, project_id)
        row = await database.fetchrow(REMOVE_OLD_TURNS, project_id, after, older_than_seconds, _BATCH)
        assert row is not None
        after = row["turn_number"]
        turns += row["turn_count"]
        records += row["record_count"]
        events += row["event_count"]
    return Purged(
        turn_count=turns,
        record_count=records,
        event_count=events,
        key_count=await database.fetchval(PURGE_KEYS, project_id, older_than_seconds),
        credential_count=await database.fetchval(PURGE_CREDENTIALS, project_id, older_than_seconds),
    )
