"""The ledger: the append-only list of events, and pages of it (wire 5, 8)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import frozen

from cgworker.wire.refs import CardBoxRef, Cause


@frozen(kw_only=True)
class LedgerEvent:
    """An event. `ledger_seq` increases within a project, in the order in which events became visible."""

    ledger_seq: int
    project_id: str
    event_type: str
    subject_kind: str
    subject_id: str
    actor_kind: str
    actor_id: str
    cause: Cause | None = None
    created_at: datetime
    note: str | None = None
    annotations: Mapping[str, Any]
    payload_ref: CardBoxRef | None = None


@frozen(kw_only=True)
class FeedPage:
    """Events in ascending order. The next page begins after `next_after_ledger_seq`."""

    items: tuple[LedgerEvent, ...]
    next_after_ledger_seq: int
