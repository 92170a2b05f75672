"""Read a turn's events and records step by step, and keep what its page shows, for all tabs at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import anyio
from attrs import frozen

from cgworker.client import KernelClient
from cgworker.console.text import shown_json
from cgworker.wire.ledger import LedgerEvent
from cgworker.wire.records import SemanticItem
from cgworker.wire.refs import TurnRef
from cgworker.wire.turns import TurnSnapshot

_EVENT_PAGE = 500
_RECORD_PAGE = 200
_MAX_PAGES = 4  # of either kind in one reading; the next reading goes on
_MAX_RECORDS = 300
_MAX_EVENTS = 2000
_STREAM_CHARACTERS = 20_000
_RECORD_EVENTS = ("turn.progress_appended", "turn.bootstrap_recorded")


@frozen(kw_only=True)
class ShownRecord:
    """A record as its page shows it.

    Attributes:
        turn_seq: its number.
        role: its role.
        at: when it was made.
        key: the key in its payload, as steps and questions have one; None without.
        text: its payload, cut.
        payload: its whole payload; None of a long one.
    """

    turn_seq: int
    role: str
    at: datetime
    key: str | None
    text: str
    payload: Any = None


class TurnReader:
    """What is known of one turn. A reading goes on where the last one ended.

    Args:
        kernel: makes the calls.
        turn: the turn.

    Attributes:
        snapshot: the state of the turn; None before the first reading.
        events: its events but those of records; of very many the last.
        records: its last records.
        record_count: how many records were read.
        stream: the end of the text that the handler streams.
        is_complete: whether the last reading came to the end.
    """

    def __init__(self, kernel: KernelClient, turn: TurnRef) -> None:
        self._kernel = kernel
        self.turn = turn
        self._lock = anyio.Lock()
        self._version = -1
        self._last_ledger_seq = 0
        self._last_turn_seq = 0
        self.snapshot: TurnSnapshot | None = None
        self.events: deque[LedgerEvent] = deque(maxlen=_MAX_EVENTS)
        self.records: deque[ShownRecord] = deque(maxlen=_MAX_RECORDS)
        self.first_record: ShownRecord | None = None
        self.record_count: int = 0
        self.stream: str = ""
        self.is_complete: bool = False

    async def read(self, version: int) -> TurnSnapshot:
        """Read what is new, unless it was read at this version of the feed.

        Args:
            version: the version of the feed.

        Returns:
            The state of the turn.

        Raises:
            NotFoundError: there is no such turn.
            KernelRefused, KernelTrouble: a call failed.
        """
        async with self._lock:
            if self.snapshot is None or self._version != version or not self.is_complete:
                self.snapshot = await self._kernel.turns.get(self.turn)
                has_more_events = await self._read_events()
                self.is_complete = not (await self._read_records() or has_more_events)
                self._version = version
            return self.snapshot

    async def _read_events(self) -> bool:
        for _ in range(_MAX_PAGES):
            page, has_more = await self._kernel.turns.feed_page(
                self.turn, after_ledger_seq=self._last_ledger_seq, limit=_EVENT_PAGE
            )
            self.events.extend(event for event in page.items if event.event_type not in _RECORD_EVENTS)
            self._last_ledger_seq = page.next_after_ledger_seq
            if not has_more:
                return False
        return True

    async def _read_records(self) -> bool:
        for _ in range(_MAX_PAGES):
            page, has_more = await self._kernel.turns.context_page(
                self.turn, after_turn_seq=self._last_turn_seq, limit=_RECORD_PAGE
            )
            for item in page.semantic_items:
                self._add(item)
            if not has_more:
                return False
        return True

    def _add(self, item: SemanticItem) -> None:
        record = _shown(item)
        self._last_turn_seq = record.turn_seq
        self.record_count += 1
        self.first_record = self.first_record or record
        piece = _streamed_text(item)
        if piece is None:
            self.records.append(record)
        else:
            start = "" if item.payload.get("index") == 0 else self.stream
            self.stream = (start + piece)[-_STREAM_CHARACTERS:]


def _shown(item: SemanticItem) -> ShownRecord:
    payload, text = item.payload, shown_json(item.payload)
    key = payload.get("key") if isinstance(payload, Mapping) else None
    return ShownRecord(
        turn_seq=item.record.turn_seq,
        role=item.record.record_role,
        at=item.record.created_at,
        key=key if isinstance(key, str) else None,
        text=text,
        payload=payload if len(text) < 4000 else None,
    )


def _streamed_text(item: SemanticItem) -> str | None:
    """Return the piece of a text that is streamed (`turn.stream`); None of another record."""
    payload = item.payload
    if (
        isinstance(payload, Mapping)
        and set(payload) == {"index", "text"}
        and isinstance(payload["text"], str)
    ):
        return payload["text"]
    return None
