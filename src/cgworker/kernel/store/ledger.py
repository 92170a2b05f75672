"""The ledger's feeds, and the numbering that makes them complete (difference 6).

Events are inserted without a number. Before a feed is read, its committed events are numbered, by one reader
at a time. The lock on the project's head is taken in a statement of its own, so that the snapshot of the next
statement sees all earlier numbers. A number therefore never becomes visible after a higher one, and a reader
that follows a feed sees every event exactly once.
"""

from __future__ import annotations

from cgworker.errors import NotFoundError
from cgworker.kernel.store.ids import turn_number
from cgworker.kernel.store.postgres.database import Connection, Database, Row
from cgworker.kernel.store.turns import raw_json
from cgworker.wire.ledger import FeedPage, LedgerEvent
from cgworker.wire.refs import AgentRef, CardBoxRef, Cause, TurnRef

_BATCH = 5000

# ---------------------------------------------------------------- numbering


HAS_UNNUMBERED = """
select exists (select from cg_ledger where project_id = $1 and ledger_seq is null)
"""

CREATE_HEAD = "insert into cg_ledger_heads (project_id) values ($1) on conflict do nothing"

# Until it has statistics of the ledger, PostgreSQL takes a batch of events for one event, and would compare
# each with each. So the next statement is planned without nested loops.
LOCK_HEAD = """
select ledger_seq, set_config('enable_nestloop', 'off', true)
from cg_ledger_heads
where project_id = $1
for update
"""

NUMBER_EVENTS = """
with batch as (
    select event_id
    from cg_ledger
    where project_id = $1 and ledger_seq is null
    order by event_id
    limit $2
), ordered as (
    select event_id, row_number() over (order by event_id) as place from batch
), numbered as (
    update cg_ledger l
    set ledger_seq = h.ledger_seq + o.place
    from ordered o, cg_ledger_heads h
    -- The array makes PostgreSQL find the events by their whole key, whatever it knows of the table.
    where h.project_id = $1 and l.project_id = $1 and l.ledger_seq is null
        and l.event_id = any (array(select event_id from batch)) and l.event_id = o.event_id
)
update cg_ledger_heads
set ledger_seq = ledger_seq + (select count(*) from batch)
where project_id = $1
returning (select count(*) from batch), set_config('enable_nestloop', 'on', true)
"""

LIST_UNNUMBERED_PROJECTS = """
with recursive project as (
    (select min(project_id) as project_id from cg_ledger where ledger_seq is null)
    union all
    select (
        select min(l.project_id) from cg_ledger l
        where l.ledger_seq is null and l.project_id > p.project_id
    )
    from project p
    where p.project_id is not null
)
select project_id
from project
where project_id is not null
    and not exists (select from cg_moves where project_id = project.project_id and closed_at is not null)
"""


async def number_events(database: Database, project_id: str) -> None:
    """Number the committed events of a project's ledger that have no number yet."""
    while await database.fetchval(HAS_UNNUMBERED, project_id):
        if await database.transact(lambda connection: _number_batch(connection, project_id)) < _BATCH:
            return


async def number_in(connection: Connection, project_id: str) -> None:
    """Number them as part of a transaction."""
    while await connection.fetchval(HAS_UNNUMBERED, project_id):
        await _number_batch(connection, project_id)


async def _number_batch(connection: Connection, project_id: str) -> int:
    await connection.execute(CREATE_HEAD, project_id)
    await connection.execute(LOCK_HEAD, project_id)
    count: int = await connection.fetchval(NUMBER_EVENTS, project_id, _BATCH)
    return count


async def number_all(database: Database) -> None:
    """Number every project's events, so that no reader meets a long backlog."""
    for row in await database.fetch(LIST_UNNUMBERED_PROJECTS):
        await number_events(database, row["project_id"])


# ---------------------------------------------------------------- feeds


def _bounded(events: str) -> str:
    """Return the statement that cuts ordered events to the bytes of a page."""
    return f"""
select * from (
    select *, count(*) over () as found_count,
        sum(octet_length(annotations::text) + coalesce(octet_length(note), 0))
            over (order by ledger_seq) as bytes,
        row_number() over (order by ledger_seq) as place
    from ({events}) found
) counted
where place = 1 or bytes <= 16777216  -- MAX_PAGE_BYTES
order by ledger_seq
"""


READ_TURN_FEED = _bounded(
    """
select * from (
    (select * from cg_ledger
     where project_id = $1 and turn_number = $2 and ledger_seq > $3
     order by ledger_seq limit $4)
    union all
    (select * from cg_ledger
     where project_id = $1 and parent_number = $2 and ledger_seq > $3
     order by ledger_seq limit $4)
) event
order by ledger_seq
limit $4
"""
)

READ_AGENT_FEED = _bounded(
    """
select * from cg_ledger
where project_id = $1 and agent_id = $2 and ledger_seq > $3
order by ledger_seq
limit $4
"""
)

READ_PROJECT_FEED = _bounded(
    """
select * from cg_ledger
where project_id = $1 and ledger_seq > $2
order by ledger_seq
limit $3
"""
)

TURN_EXISTS = "select exists (select from cg_turns where project_id = $1 and turn_number = $2)"


async def turn_feed(
    database: Database, ref: TurnRef, *, after: int, limit: int, max_items: int
) -> tuple[FeedPage, bool]:
    """Return events of a turn, and of its children's starts and ends, and whether a limit cut the page.

    Args:
        database: the kernel's database.
        ref: the turn.
        after: the page starts after this ledger_seq.
        limit: the caller's limit.
        max_items: the longest page.

    Raises:
        NotFoundError: there is no such turn.
    """
    number = turn_number(ref.turn_id)
    if not await database.fetchval(TURN_EXISTS, ref.project_id, number):
        raise NotFoundError(f"turn not found: {ref.turn_id}")
    await number_events(database, ref.project_id)
    rows = await database.fetch(READ_TURN_FEED, ref.project_id, number, after, min(limit, max_items))
    return _page_of(rows, after), limit > max_items == len(rows) or is_cut_by_size(rows)


async def agent_feed(
    database: Database, agent: AgentRef, *, after: int, limit: int, max_items: int
) -> tuple[FeedPage, bool]:
    """Return events of an agent and of its turns, like `turn_feed`; an unknown agent has none."""
    await number_events(database, agent.project_id)
    rows = await database.fetch(
        READ_AGENT_FEED, agent.project_id, agent.agent_id, after, min(limit, max_items)
    )
    return _page_of(rows, after), limit > max_items == len(rows) or is_cut_by_size(rows)


async def project_events(database: Database, project_id: str, *, after: int, limit: int) -> list[Row]:
    """Return rows of the project's ledger after a ledger_seq."""
    await number_events(database, project_id)
    return await database.fetch(READ_PROJECT_FEED, project_id, after, limit)


def is_cut_by_size(rows: list[Row]) -> bool:
    """Whether the size of the rows, not the limit, cut the page."""
    return bool(rows) and rows[0]["found_count"] > len(rows)


def _page_of(rows: list[Row], after: int) -> FeedPage:
    items = tuple(_event_of(row) for row in rows)
    return FeedPage(items=items, next_after_ledger_seq=items[-1].ledger_seq if items else after)


def _event_of(row: Row) -> LedgerEvent:
    return LedgerEvent(
        ledger_seq=row["ledger_seq"],
        project_id=row["project_id"],
        event_type=row["event_type"],
        subject_kind=row["subject_kind"],
        subject_id=row["subject_id"],
        actor_kind=row["actor_kind"],
        actor_id=row["actor_id"],
        cause=Cause(kind=row["cause_kind"], id=row["cause_id"]) if row["cause_kind"] else None,
        created_at=row["created_at"],
        note=row["note"],
        annotations=raw_json(row["annotations"]),
        payload_ref=payload_ref_of(row),
    )


def payload_ref_of(row: Row) -> CardBoxRef | None:
    """Return the reference of an event's content; None if it has none."""
    box_id = row["payload_box_id"]
    return CardBoxRef(project_id=row["project_id"], cardbox_id=box_id) if box_id else None
