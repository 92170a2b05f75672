"""How a project's overview looks on a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from cgworker.cli.overview import Overview
from cgworker.cli.rendering import coloured, duration, plain_text, table, words
from cgworker.lifecycle import TurnState
from cgworker.wire.projections import TurnEntry

_ROWS = 12


def drawn(overview: Overview, *, trouble: str = "") -> RenderableType:
    """Draw an overview: a line of numbers, the agents, and the newest turns.

    Args:
        overview: what was read last.
        trouble: why it could not be read anew; empty if it was.
    """
    parts: list[Any] = [(overview.project_id, "bold")]
    for state, by_agent in overview.open_turns.items():
        parts += ["   ", coloured(state), f" {sum(by_agent.values())}"]
    agents = table(
        [agent for agent in overview.agents if agent.capabilities][:_ROWS],
        agent=lambda a: a.agent_id,
        running=lambda a: _count(overview, TurnState.RUNNING, a.agent_id),
        queued=lambda a: _count(overview, TurnState.QUEUED, a.agent_id),
        suspended=lambda a: _count(overview, TurnState.SUSPENDED, a.agent_id),
        seen=lambda a: _ago(a.last_seen_at),
    )
    turns = table(
        overview.newest[:_ROWS],
        turn=lambda t: t.turn_id,
        agent=lambda t: t.target_agent_id,
        kind=lambda t: t.turn_kind,
        state=lambda t: coloured(t.outcome or t.state),
        born=lambda t: _ago(t.created_at),
        took=_took,
    )
    stale = [plain_text(f"as it was: {trouble}; trying again", style="yellow")] if trouble else []
    return Group(words(*parts), *stale, Text(), agents, Text(), turns)


def _count(overview: Overview, state: TurnState, agent_id: str) -> Text:
    count = overview.open_turns.get(state.value, {}).get(agent_id, 0)
    return plain_text(str(count), style="bold" if count else "dim")


def _took(turn: TurnEntry) -> str:
    return "" if turn.closed_at is None else duration((turn.closed_at - turn.created_at).total_seconds())


def _ago(instant: datetime | None) -> str:
    if instant is None:
        return "never"
    seconds = max((datetime.now(UTC) - instant).total_seconds(), 0)
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.0f} h ago"
