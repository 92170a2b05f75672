"""The ledger: the append-only list of events, and pages of it (wire 5, 8)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import frozen

from cgworker.wire.refs import CardBoxRef, Cause


@frozen(kw_only=True)
class LedgerEvent:
    """A fact. `ledger_seq` increases within a project, in the order in which facts became visible."""

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
    """Events after a sequence number, ascending; ask again after `next_after_ledger_seq`."""

    items: tuple[LedgerEvent, ...]
    next_after_ledger_seq: int
