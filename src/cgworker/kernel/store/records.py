"""Read semantic records with their content, for the context of a turn (wire 5.1, 6.4)."""

from __future__ import annotations

from typing import Any

from cgworker.kernel.store.ids import turn_id, turn_number
from cgworker.kernel.store.postgres.database import Database, Row
from cgworker.kernel.store.turns import get_turn, raw_json
from cgworker.wire.converter import dumps
from cgworker.wire.records import Card, CardBox, HydratedBox, SemanticItem, SemanticRecord, TurnContext
from cgworker.wire.refs import CardBoxRef, RecordRef, TurnRef


def card_metadata(role: str, **more: str) -> str:
    """Return a card's metadata as JSON text."""
    return dumps({"cg_role": role, "cg_source": "CommonGround", **more}).decode()


MAX_PAGE_BYTES = 16 * 2**20
"""The most bytes of payloads or annotations in a page; a larger single item makes a page alone."""

LIST_RECORDS = """
select * from (
    select *, count(*) over () as found_count,
        sum(octet_length(payload::text)) over (order by turn_seq) as bytes,
        row_number() over (order by turn_seq) as place
    from (
        select project_id, turn_number, turn_seq, record_id, role, box_id, card_id, metadata, payload,
            created_at as recorded_at
        from cg_records
        where project_id = $1 and turn_number = $2 and turn_seq > greatest($3, 0)
        order by turn_seq
        limit $4
    ) found
) counted
where place = 1 or bytes <= $5
order by turn_seq
"""


async def list_records(
    database: Database, ref: TurnRef, *, after_turn_seq: int, limit: int
) -> tuple[tuple[SemanticItem, ...], bool]:
    """Return up to `limit` records after a turn_seq, ascending, and whether their size cut the page."""
    number = turn_number(ref.turn_id)
    rows = await database.fetch(LIST_RECORDS, ref.project_id, number, after_turn_seq, limit, MAX_PAGE_BYTES)
    return tuple(map(item_of, rows)), bool(rows) and rows[0]["found_count"] > len(rows)


async def get_context(
    database: Database, ref: TurnRef, *, after_turn_seq: int, limit: int, max_items: int
) -> tuple[TurnContext, bool]:
    """Return the turn and a page of its records, and whether a limit of the kernel cut the page.

    Args:
        database: the kernel's database.
        ref: the turn.
        after_turn_seq: the page starts after this record.
        limit: the caller's limit; a negative one drops so many from the end, as the reference does.
        max_items: the longest page.
    """
    turn = await get_turn(database, ref)
    fetched = min(limit, max_items) if limit >= 0 else max_items
    items, is_large = await list_records(database, ref, after_turn_seq=after_turn_seq, limit=fetched)
    if limit < 0 and not is_large:
        items = items[:limit]
    return TurnContext(turn=turn, semantic_items=items), is_large or limit > max_items == len(items)


def item_of(row: Row) -> SemanticItem:
    """Convert a row with the columns of LIST_RECORDS to a record with its content."""
    project_id = row["project_id"]
    box = CardBoxRef(project_id=project_id, cardbox_id=row["box_id"])
    card = Card(
        content=_content_of(row["payload"]), metadata=raw_json(row["metadata"]), card_id=row["card_id"]
    )
    record = SemanticRecord(
        ref=RecordRef(project_id=project_id, record_id=row["record_id"]),
        turn=TurnRef(project_id=project_id, turn_id=turn_id(row["turn_number"])),
        turn_seq=row["turn_seq"],
        record_role=row["role"],
        cardbox_ref=box,
        created_at=row["recorded_at"],
    )
    content = HydratedBox(
        ref=box, box=CardBox(card_ids=(row["card_id"],), box_id=row["box_id"]), cards=(card,)
    )
    return SemanticItem(record=record, content=content)


def _content_of(payload: str) -> dict[str, Any]:
    if payload.startswith('"'):
        return {"text": raw_json(payload), "__type__": "TextContent"}
    return {"data": raw_json(payload), "__type__": "JsonContent"}
