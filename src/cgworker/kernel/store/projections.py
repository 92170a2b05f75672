"""Projections: lists of agents, offers, turns and events (wire 11)."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from cgworker.errors import NotFoundError
from cgworker.kernel.store.ids import turn_id, turn_number
from cgworker.kernel.store.ledger import project_events
from cgworker.kernel.store.postgres.database import Database, Row
from cgworker.kernel.store.turns import raw_json, resume_at
from cgworker.wire.converter import dumps, loads
from cgworker.wire.projections import (
    AgentEntry,
    AgentPage,
    Diagnostic,
    Lineage,
    OfferEntry,
    OfferPage,
    TurnEntry,
    TurnPage,
)
from cgworker.wire.refs import TurnRef

# ---------------------------------------------------------------- agents


LIST_AGENTS = """
select agent_id, role, description, enabled, accepts_work, capabilities, public_metadata, last_seen_at, grants
from cg_agents
where project_id = $1
    and ($2::text is null or agent_id = $2)
    and (not $3 or enabled)
    and (not $4 or accepts_work)
    and ($5::text is null or role = $5)
    and ($6::text is null or capabilities @> array[$6])
    and ($7::text is null or agent_id > $7)
order by agent_id
limit $8
"""


async def list_agents(  # noqa: PLR0913  # one for each filter
    database: Database,
    project_id: str,
    *,
    agent_id: str | None,
    enabled_only: bool,
    accepts_work_only: bool,
    role: str | None,
    capability: str | None,
    after_agent_id: str | None,
    limit: int,
) -> AgentPage:
    """List agents, ordered by id."""
    rows = await database.fetch_planned(
        LIST_AGENTS,
        project_id,
        agent_id,
        enabled_only,
        accepts_work_only,
        role,
        capability,
        after_agent_id,
        limit,
    )
    return AgentPage(project_id=project_id, items=tuple(map(_agent_of, rows)), limit=limit)


def _agent_of(row: Row) -> AgentEntry:
    return AgentEntry(
        agent_id=row["agent_id"],
        role=row["role"],
        description=row["description"],
        enabled=row["enabled"],
        accepts_work=row["accepts_work"],
        capabilities=tuple(row["capabilities"]),
        public_metadata=raw_json(row["public_metadata"]),
        last_seen_at=row["last_seen_at"],
        grants=tuple(row["grants"]) or None,
    )


# ---------------------------------------------------------------- offers


# Reads only agents with offers. Their offers are then checked one by one, since an invalid one is reported.
LIST_OFFERING_AGENTS = """
select agent_id, description, enabled, accepts_work, capabilities, public_metadata
from cg_agents
where project_id = $1
    and ($2::text is null or agent_id = $2)
    and (not $3 or enabled)
    and (not $4 or accepts_work)
    and has_offers
order by agent_id
"""


async def list_offers(
    database: Database,
    project_id: str,
    *,
    turn_kind: str | None,
    agent_id: str | None,
    enabled_only: bool,
    accepts_work_only: bool,
    limit: int,
) -> OfferPage:
    """List agents' offers; an offer beyond the agent's capabilities is a diagnostic instead."""
    rows = await database.fetch_planned(
        LIST_OFFERING_AGENTS, project_id, agent_id, enabled_only, accepts_work_only
    )
    offers: list[OfferEntry] = []
    diagnostics: list[Diagnostic] = []
    for row in rows:
        _sort_offers_of(row, turn_kind, offers, diagnostics)
    offers.sort(key=lambda offer: (offer.turn_kind, offer.agent_id))
    return OfferPage(
        project_id=project_id, items=tuple(offers[:limit]), limit=limit, diagnostics=tuple(diagnostics)
    )


def _sort_offers_of(
    row: Row, turn_kind: str | None, offers: list[OfferEntry], diagnostics: list[Diagnostic]
) -> None:
    metadata = loads(row["public_metadata"])
    for offer in metadata.get("turn_offers") or []:
        kind = offer["turn_kind"]
        if turn_kind is not None and kind != turn_kind:
            continue
        if kind in row["capabilities"]:
            offers.append(_offer_of(row, metadata, offer))
        else:
            diagnostics.append(
                Diagnostic(
                    code="turn_offer_missing_capability",
                    message=f"turn_offers turn_kind not declared in agent capabilities: {kind}",
                    subject_id=row["agent_id"],
                )
            )


def _offer_of(row: Row, metadata: dict[str, Any], offer: dict[str, Any]) -> OfferEntry:
    ui = metadata.get("ui")
    label = ui.get("label") if isinstance(ui, dict) else None
    return OfferEntry(
        agent_id=row["agent_id"],
        agent_label=label if isinstance(label, str) else None,
        agent_description=row["description"],
        turn_kind=offer["turn_kind"],
        purpose=offer.get("purpose"),
        calling=offer["calling"],
        input_contract=offer["input_contract"],
        variants=offer.get("variants") or {},
        enabled=row["enabled"],
        accepts_work=row["accepts_work"],
    )


# ---------------------------------------------------------------- turns


LIST_TURNS = """
select turn_number, target_agent_id, turn_kind, state, outcome, stop_requested, cause_kind, cause_id,
    created_at, updated_at, closed_at, due_at
from cg_turns
where project_id = $1 and turn_number > 0
    and ($2::text is null or target_agent_id = $2)
    and ($3::text is null or turn_kind = $3)
    and ($4::text is null or state = $4)
    and ($5::text is null or (state = 'closed' and outcome = $5))
    and (not $6 or stop_requested)
    and ($7::bigint = 0 or turn_number < $7)
order by turn_number desc
limit $8
"""


async def list_turns(  # noqa: PLR0913  # one for each filter
    database: Database,
    project_id: str,
    *,
    target_agent_id: str | None,
    turn_kind: str | None,
    state: str | None,
    outcome: str | None,
    stop_requested_only: bool,
    before_turn_seq: int,
    limit: int,
) -> TurnPage:
    """List turns, newest first; `before_turn_seq` continues a list, 0 begins one."""
    rows = await database.fetch_planned(
        LIST_TURNS,
        project_id,
        target_agent_id,
        turn_kind,
        state,
        outcome,
        stop_requested_only,
        before_turn_seq,
        limit,
    )
    return TurnPage(project_id=project_id, items=tuple(map(_turn_of, rows)), limit=limit)


LIST_LINEAGE = """
(select * from cg_turns where project_id = $1 and turn_number = $2)
union all
(select * from cg_turns where project_id = $1 and parent_number = $2 order by turn_number limit $3)
"""


async def get_lineage(database: Database, ref: TurnRef, *, limit: int) -> Lineage:
    """Return a turn and its direct children, oldest first.

    Raises:
        NotFoundError: there is no such turn.
    """
    number = turn_number(ref.turn_id)
    rows = await database.fetch(LIST_LINEAGE, ref.project_id, number, limit)
    entries = sorted(map(_turn_of, rows), key=lambda entry: entry.project_turn_seq)
    own = [entry for entry in entries if entry.project_turn_seq == number]
    if not own:
        raise NotFoundError(f"turn not found: {ref.turn_id}")
    children = tuple(entry for entry in entries if entry.project_turn_seq != number)
    return Lineage(
        project_id=ref.project_id,
        turn_id=ref.turn_id,
        parent=own[0],
        direct_children=children,
        limit=limit,
    )


def _turn_of(row: Row) -> TurnEntry:
    return TurnEntry(
        turn_id=turn_id(row["turn_number"]),
        project_turn_seq=row["turn_number"],
        target_agent_id=row["target_agent_id"],
        turn_kind=row["turn_kind"],
        state=row["state"],
        outcome=row["outcome"],
        stop_requested=row["stop_requested"],
        cause_kind=row["cause_kind"],
        cause_id=row["cause_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        closed_at=row["closed_at"],
        resume_at=resume_at(row),
    )


# ---------------------------------------------------------------- feed


@frozen
class FeedPlace:
    """Where a reader of a feed is: its page begins after a ledger_seq, and has at most so many events."""

    after: int
    limit: int


@frozen
class FeedBytes:
    """A page of a project's feed as it is sent, and the number of its events."""

    body: bytes
    count: int


async def read_feed(database: Database, project_id: str, place: FeedPlace) -> FeedBytes:
    """Read the page at a place of the project's feed, an `EventPage`.

    A busy feed has thousands of events a second, so it is written without making objects of them.
    """
    rows = await project_events(database, project_id, after=place.after, limit=place.limit)
    page = {
        "project_id": project_id,
        "items": [_event_of(row) for row in rows],
        "limit": place.limit,
        "diagnostics": (),
        "next_after_ledger_seq": rows[-1]["ledger_seq"] if rows else place.after,
    }
    return FeedBytes(dumps(page), len(rows))


def _event_of(row: Row) -> dict[str, Any]:
    """Return an `EventEntry` as it is sent."""
    box_id = row["payload_box_id"]
    return {
        "ledger_seq": row["ledger_seq"],
        "event_type": row["event_type"],
        "subject_kind": row["subject_kind"],
        "subject_id": row["subject_id"],
        "actor_kind": row["actor_kind"],
        "actor_id": row["actor_id"],
        "cause_kind": row["cause_kind"],
        "cause_id": row["cause_id"],
        "created_at": row["created_at"],
        "note": row["note"],
        "annotations": raw_json(row["annotations"]),
        "payload_ref": {"project_id": row["project_id"], "cardbox_id": box_id} if box_id else None,
    }
