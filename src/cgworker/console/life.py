"""A turn's life as a timeline: when it was queued, ran and was suspended, and who held it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from attrs import evolve, frozen

from cgworker.wire.ledger import LedgerEvent
from cgworker.wire.turns import TurnSnapshot

_STATE_AFTER = {
    "turn.spawned": "queued",
    "turn.claimed": "running",
    "turn.suspended": "suspended",
    "turn.resumed": "queued",
    "turn.claim_reconciled": "queued",
    "turn.finished": "closed",
}


@frozen(kw_only=True)
class Phase:
    """A time in which the turn was in one state.

    Attributes:
        state: the state.
        begun_at: its begin.
        ended_at: its end; None if it lasts.
        attempt: the number of the claim, counted from 1; 0 before the first.
        holder: the agent that held the turn, while it ran.
        reason: why it was suspended.
        ending: how the phase ended, in a word.
    """

    state: str
    begun_at: datetime
    ended_at: datetime | None = None
    attempt: int = 0
    holder: str = ""
    reason: str = ""
    ending: str = ""

    @property
    def seconds(self) -> float:
        """How long it lasted, or lasts by now."""
        return ((self.ended_at or datetime.now(UTC)) - self.begun_at).total_seconds()


@frozen(kw_only=True)
class Bar:
    """A phase as a bar of the timeline, in thousandths of its width."""

    phase: Phase
    x: float
    width: float


def phases_of(turn: TurnSnapshot, events: Iterable[LedgerEvent]) -> list[Phase]:
    """Return the phases of a turn's life, in order; its children's events are passed over.

    Args:
        turn: the turn.
        events: the events of its feed.
    """
    phases: list[Phase] = []
    attempt = 0
    for event in events:
        state = _STATE_AFTER.get(event.event_type)
        if state is None or event.subject_id != turn.turn.turn_id:
            continue
        if phases and phases[-1].ended_at is None:
            phases[-1] = evolve(phases[-1], ended_at=event.created_at, ending=_ending_of(event, turn))
        if state == "closed":
            break
        attempt += state == "running"
        phases.append(
            Phase(
                state=state,
                begun_at=event.created_at,
                attempt=attempt,
                holder=event.actor_id if state == "running" else "",
                reason=_reason_of(event) if state == "suspended" else "",
            )
        )
    return phases


def bars_of(phases: Sequence[Phase]) -> list[Bar]:
    """Return the phases as bars that fill 1000 units, each at least 4 wide.

    Args:
        phases: the phases.
    """
    return list(_bars(phases)) if phases else []


def _bars(phases: Sequence[Phase]) -> Iterator[Bar]:
    begun_at = phases[0].begun_at
    end = max(phase.ended_at or datetime.now(UTC) for phase in phases)
    total = max((end - begun_at).total_seconds(), 0.001)
    for phase in phases:
        x = (phase.begun_at - begun_at).total_seconds() / total * 1000
        width = max(phase.seconds / total * 1000, 4.0)
        yield Bar(phase=phase, x=round(min(x, 1000 - width), 1), width=round(width, 1))


def _ending_of(event: LedgerEvent, turn: TurnSnapshot) -> str:
    if event.event_type == "turn.finished":
        return turn.outcome or "closed"
    if event.event_type == "turn.claim_reconciled":
        return "lease ended"
    return {"turn.suspended": "suspended", "turn.claimed": "claimed", "turn.resumed": "resumed"}.get(
        event.event_type, ""
    )


def _reason_of(event: LedgerEvent) -> str:
    caller = event.annotations.get("caller")
    return str(caller.get("reason") or "") if isinstance(caller, dict) else ""
