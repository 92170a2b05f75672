"""Semantic records with their content, as a context shows them (protocol.md 5.1, 6.4)."""

from __future__ import annotations

from typing import Any

from cgworker.kernel.store.ids import turn_id, turn_number
from cgworker.kernel.store.postgres import Database, Row
from cgworker.kernel.store.turns import get_turn, raw_json
from cgworker.wire.converter import dumps
from cgworker.wire.records import Card, CardBox, HydratedBox, SemanticItem, SemanticRecord, TurnContext
from cgworker.wire.refs import CardBoxRef, RecordRef, TurnRef


def card_metadata(role: str, **more: str) -> str:
    """A card's metadata as JSON text."""
    return dumps({"cg_role": role, "cg_source": "CommonGround", **more}).decode()


LIST_RECORDS = """
select project_id, turn_number, turn_seq, record_id, role, box_id, card_id, metadata, payload,
    created_at as recorded_at
from cg_records
where project_id = $1 and turn_number = $2 and turn_seq > greatest($3, 0)
order by turn_seq
limit $4
"""


async def list_records(
    database: Database, ref: TurnRef, *, after_turn_seq: int, limit: int
) -> tuple[SemanticItem, ...]:
    """Up to `limit` records after a turn_seq, ascending."""
    rows = await database.fetch(LIST_RECORDS, ref.project_id, turn_number(ref.turn_id), after_turn_seq, limit)
    return tuple(map(item_of, rows))


async def get_context(
    database: Database, ref: TurnRef, *, after_turn_seq: int, limit: int, most: int
) -> TurnContext:
    """The turn and a page of its records.

    Args:
        limit: as the caller asked; a negative one drops so many from the end, as the reference does.
        most: the longest page.
    """
    turn = await get_turn(database, ref)
    fetched = min(limit, most) if limit >= 0 else most
    items = await list_records(database, ref, after_turn_seq=after_turn_seq, limit=fetched)
    return TurnContext(turn=turn, semantic_items=items if limit >= 0 else items[:limit])


def item_of(row: Row) -> SemanticItem:
    """A row with the columns of LIST_RECORDS as a record with its content."""
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
