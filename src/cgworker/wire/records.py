"""Semantic records and their content (wire 5.1, 6.4)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import frozen

from cgworker.wire.lazy import Lazy
from cgworker.wire.meta import Meta, Trace
from cgworker.wire.refs import CardBoxRef, ClaimToken, RecordRef, TurnRef
from cgworker.wire.turns import TurnSnapshot

JSON_LINES = "application/x-ndjson"
"""The media type of a context whose turn and records are a line each (difference 43)."""

MESSAGE_ROLE = "message"
"""The role of a message to a turn, `{"from", "message", "key"}` (difference 32)."""


@frozen(kw_only=True)
class Card(Lazy):
    """One payload. `content` is {"text", "__type__"} for a string, {"data", "__type__"} for the rest."""

    content: Mapping[str, Any]
    tool_calls: Any = None
    tool_call_id: Any = None
    ttl_seconds: Any = None
    metadata: Mapping[str, Any]
    card_id: str

    @property
    def payload(self) -> Any:
        """The JSON value that was stored."""
        return self.content["text"] if "text" in self.content else self.content.get("data")


@frozen(kw_only=True)
class CardBox:
    """A box and the ids of its cards; a box holds exactly one card."""

    card_ids: tuple[str, ...]
    box_id: str


@frozen(kw_only=True)
class HydratedBox(Lazy):
    """A box with the content of its cards. The reference's clients refuse any further key in it."""

    ref: CardBoxRef
    box: CardBox
    cards: tuple[Card, ...]


@frozen(kw_only=True)
class SemanticRecord(Lazy):
    """One record of a turn; `turn_seq` counts from 1."""

    ref: RecordRef
    turn: TurnRef
    turn_seq: int
    record_role: str
    cardbox_ref: CardBoxRef
    created_at: datetime


@frozen(kw_only=True)
class SemanticItem(Lazy):
    """A record with its content."""

    record: SemanticRecord
    content: HydratedBox

    @property
    def payload(self) -> Any:
        """The JSON value of the record."""
        try:
            content = self.answered()["content"]["cards"][0]["content"]
            return content["text"] if "text" in content else content["data"]
        except (LookupError, TypeError, AttributeError):  # it is read again, for the faults
            return self.content.cards[0].payload

    @property
    def role(self) -> str:
        """The role of the record."""
        try:
            role = self.answered()["record"]["record_role"]
        except (LookupError, TypeError, AttributeError):
            role = None
        return role if isinstance(role, str) else self.record.record_role


@frozen(kw_only=True)
class TurnContext:
    """A turn and a page of its records, ascending. The next page begins after the last `turn_seq`."""

    turn: TurnSnapshot
    semantic_items: tuple[SemanticItem, ...]


@frozen(kw_only=True)
class AppendRecord:
    """Append a record to a turn under its claim."""

    claim: ClaimToken
    payload: Any
    role: str = "progress"
    meta: Meta | None = None
    trace: Trace | None = None
