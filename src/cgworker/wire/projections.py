"""Projections: lists for reading, never a basis for decisions (wire 11)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import frozen

from cgworker.wire.absent import ABSENT, Absent
from cgworker.wire.refs import CardBoxRef


@frozen(kw_only=True)
class Diagnostic:
    """Something that a projection left out, and the reason."""

    code: str
    message: str
    subject_id: str | None = None


@frozen(kw_only=True)
class AgentEntry:
    """An agent in a list; `grants` is null if it has none."""

    agent_id: str
    role: str | None = None
    description: str | None = None
    enabled: bool
    accepts_work: bool
    capabilities: tuple[str, ...]
    public_metadata: Mapping[str, Any]
    last_seen_at: datetime | None = None
    grants: tuple[str, ...] | None = None


@frozen(kw_only=True)
class OfferEntry:
    """A turn kind that an agent offers."""

    agent_id: str
    agent_label: str | None = None
    agent_description: str | None = None
    turn_kind: str
    purpose: str | None = None
    calling: Mapping[str, Any]
    input_contract: Mapping[str, Any]
    variants: Mapping[str, Any]
    enabled: bool
    accepts_work: bool
    metadata_source: str = "agent.public_metadata.turn_offers"


@frozen(kw_only=True)
class TurnEntry:
    """A turn in a list; `resume_at` as in `TurnSnapshot`."""

    turn_id: str
    project_turn_seq: int
    target_agent_id: str
    turn_kind: str
    state: str
    outcome: str | None = None
    stop_requested: bool
    cause_kind: str
    cause_id: str
    created_at: datetime
    updated_at: datetime
    closed_at: datetime | None = None
    resume_at: datetime | Absent = ABSENT


@frozen(kw_only=True)
class EventEntry:
    """A ledger event in the project's feed."""

    ledger_seq: int
    event_type: str
    subject_kind: str
    subject_id: str
    actor_kind: str
    actor_id: str
    cause_kind: str | None = None
    cause_id: str | None = None
    created_at: datetime
    note: str | None = None
    annotations: Mapping[str, Any]
    payload_ref: CardBoxRef | None = None


@frozen(kw_only=True)
class AgentPage:
    """Agents of a project, ordered by id."""

    project_id: str
    items: tuple[AgentEntry, ...]
    limit: int
    diagnostics: tuple[Diagnostic, ...] = ()


@frozen(kw_only=True)
class OfferPage:
    """Turn kinds that agents of a project offer."""

    project_id: str
    items: tuple[OfferEntry, ...]
    limit: int
    diagnostics: tuple[Diagnostic, ...] = ()


@frozen(kw_only=True)
class TurnPage:
    """Turns of a project, newest first."""

    project_id: str
    items: tuple[TurnEntry, ...]
    limit: int
    diagnostics: tuple[Diagnostic, ...] = ()


@frozen(kw_only=True)
class EventPage:
    """Ledger events of a project, in ascending order."""

    project_id: str
    items: tuple[EventEntry, ...]
    limit: int
    diagnostics: tuple[Diagnostic, ...] = ()
    next_after_ledger_seq: int


@frozen(kw_only=True)
class Lineage:
    """A turn and its children. `parent` is the requested turn, not its parent (wire 11)."""

    project_id: str
    turn_id: str
    parent: TurnEntry
    direct_children: tuple[TurnEntry, ...]
    limit: int
    diagnostics: tuple[Diagnostic, ...] = ()
