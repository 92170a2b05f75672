"""Read semantic records with their content, for the context of a turn (wire 5.1, 6.4)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from json.encoder import encode_basestring as quoted
from operator import itemgetter
from typing import Any, TypeAlias

import orjson
from attrs import frozen

from cgworker.kernel.store.ids import turn_id, turn_number
from cgworker.kernel.store.postgres.database import Database, Row
from cgworker.kernel.store.turns import StoredTurn, get_turn
from cgworker.wire.converter import dumps
from cgworker.wire.refs import TurnRef


@lru_cache(maxsize=256)  # few roles have nearly all records
def card_metadata(role: str, **more: str) -> str:
    """Return a card's metadata as JSON text."""
    return dumps({"cg_role": role, "cg_source": "CommonGround", **more}).decode()


MAX_PAGE_BYTES = 16 * 2**20
"""The most bytes of payloads or annotations in a page; a larger single item makes a page alone."""


StoredRecord: TypeAlias = str
"""A record as the JSON text of a SemanticItem: the kernel stores payloads, and never reads them."""


@frozen
class ContextPage:
    """A turn and a page of its records.

    Attributes:
        turn: the turn.
        records: the records, ascending.
        cut_after: the turn_seq of the last record, if a limit of the kernel cut the page; else None.
    """

    turn: StoredTurn
    records: tuple[StoredRecord, ...]
    cut_after: int | None

    def lines(self) -> bytes:
        """Return the turn and each record as a line of JSON (difference 43).

        Stored payloads may have line breaks, but only as blanks between values: in a string they are escaped.
        """
        texts = (dumps(self.turn).decode(), *self.records)
        joined = "\n".join(texts)
        if joined.count("\n") > len(self.records):
            joined = "\n".join(text.replace("\n", " ") for text in texts)
        return joined.encode()


def context_of(turn: StoredTurn, records: Iterable[StoredRecord]) -> dict[str, Any]:
    """Return a turn and its records as the JSON of a TurnContext."""
    return {"turn": turn, "semantic_items": orjson.Fragment("[" + ",".join(records) + "]")}


LIST_RECORDS = """
select turn_seq, record_id, role, box_id, card_id, metadata, payload, recorded_at, found_count from (
    select *, count(*) over () as found_count,
        sum(octet_length(payload::text)) over (order by turn_seq) as bytes,
        row_number() over (order by turn_seq) as place
    from (
        select turn_seq, record_id, role, box_id, card_id, metadata, payload, created_at as recorded_at
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
) -> tuple[tuple[StoredRecord, ...], int | None, bool]:
    """Return records after a turn_seq, ascending.

    Args:
        database: the kernel's database.
        ref: the turn.
        after_turn_seq: the records have a higher one.
        limit: the most records.

    Returns:
        The records, the turn_seq of the last one, and whether their size cut the page.
    """
    number = turn_number(ref.turn_id)
    rows = await database.fetch(LIST_RECORDS, ref.project_id, number, after_turn_seq, limit, MAX_PAGE_BYTES)
    if not rows:
        return (), None, False
    return (
        stored_records(ref.project_id, number, rows),
        rows[-1]["turn_seq"],
        rows[0]["found_count"] > len(rows),
    )


async def get_context(
    database: Database, ref: TurnRef, *, after_turn_seq: int, limit: int, max_items: int
) -> ContextPage:
    """Return the turn and a page of its records.

    Args:
        database: the kernel's database.
        ref: the turn.
        after_turn_seq: the page starts after this record.
        limit: the caller's limit; a negative one drops so many from the end, as the reference does.
        max_items: the longest page.
    """
    turn = await get_turn(database, ref)
    fetched = min(limit, max_items) if limit >= 0 else max_items
    records, last_seq, is_large = await list_records(
        database, ref, after_turn_seq=after_turn_seq, limit=fetched
    )
    if limit < 0 and not is_large:
        records = records[:limit]
    is_cut = is_large or limit > max_items == len(records)
    return ContextPage(turn, records, last_seq if is_cut else None)


_columns_of = itemgetter(
    "turn_seq", "record_id", "role", "box_id", "card_id", "metadata", "payload", "recorded_at"
)


def stored_records(project_id: str, number: int, rows: Iterable[Row]) -> tuple[StoredRecord, ...]:
    """Convert rows with the columns of LIST_RECORDS to records with their content.

    Args:
        project_id: the project of the turn that they belong to.
        number: the number of the turn.
        rows: the rows.
    """
    project_id = quoted(project_id)
    turn = f'{{"project_id":{project_id},"turn_id":"{turn_id(number)}"}}'
    return tuple([_text_of(row, project_id, turn) for row in rows])


def _text_of(row: Row, project_id: str, turn: str) -> str:
    """Return a SemanticItem's JSON. By way of the classes it would take ten times as long."""
    turn_seq, record_id, role, box_id, card_id, metadata, payload, recorded_at = _columns_of(row)
    box = f'{{"project_id":{project_id},"cardbox_id":"{box_id}"}}'  # ids of ids.py have nothing to escape
    name, kind = ("text", "TextContent") if payload.startswith('"') else ("data", "JsonContent")
    return (
        f'{{"record":{{"ref":{{"project_id":{project_id},"record_id":"{record_id}"}},"turn":{turn},'
        f'"turn_seq":{turn_seq},"record_role":{quoted(role)},"cardbox_ref":{box},'
        f'"created_at":{orjson.dumps(recorded_at).decode()}}},'
        f'"content":{{"ref":{box},"box":{{"card_ids":["{card_id}"],"box_id":"{box_id}"}},'
        f'"cards":[{{"content":{{"{name}":{payload},"__type__":"{kind}"}},'
        f'"tool_calls":null,"tool_call_id":null,"ttl_seconds":null,'
        f'"metadata":{metadata},"card_id":"{card_id}"}}]}}}}'
    )
