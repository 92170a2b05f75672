"""What a person sees on a terminal.

Programs never see any of this: without a terminal, or with --json, the envelope is all there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

import cgworker.cli.agent_views  # draws agents, offers, credentials and invites
import cgworker.cli.schedule_views  # draws schedules
import cgworker.cli.turn_views  # noqa: F401  # draws turns, records and questions
from cgworker.cli.picture import picture as picture
from cgworker.cli.problems import Problem
from cgworker.cli.rendering import (
    FittedTable,
    coloured,
    local_time,
    panel,
    plain_text,
    screen,
    table,
    turn_title,
    with_diagnostics,
    words,
)
from cgworker.cli.results import (
    Diagnosis,
    SmokeResult,
    TurnResult,
    Why,
)
from cgworker.cli.worker_results import CheckCard, LoopResult, NothingClaimed, Replay, WorkedTurn
from cgworker.wire.ledger import FeedPage, LedgerEvent
from cgworker.wire.projections import (
    EventEntry,
    EventPage,
)


def show(result: Any) -> None:
    """Print a result for people.

    Args:
        result: what a command returned.
    """
    screen().print(picture(result), crop=False)


def show_problem(problem: Problem) -> None:
    """Print why a command failed, and what to do about it."""
    console = screen(stderr=True)
    console.print(words(("✗ ", "bold red"), (problem.code, "bold red"), "  ", problem.message))
    if problem.advice:
        console.print(words(("→ ", "bold"), problem.advice))


# ---------------------------------------------------------------- workers and checks


@picture.register
def _(_: NothingClaimed) -> RenderableType:
    return Text("no turn was claimed", style="dim")


@picture.register
def _(worked: WorkedTurn) -> RenderableType:
    if isinstance(worked.turn, TurnResult):
        return picture(worked.turn)
    why = worked.lease_error or worked.not_settled or "the kernel could not be asked how it stands"
    kept = f"; its result is kept at {worked.kept_at}" if worked.kept_at else ""
    return plain_text(f"{worked.turn_id} is not settled: {why}{kept}", style="yellow")


@picture.register
def _(loop: LoopResult) -> RenderableType:
    counts = Text(f"worked {loop.claimed_count} turns, asked for work {loop.iterations} times")
    # A loop that was ended does not know why nothing was claimed.
    return counts if isinstance(loop.last, NothingClaimed | None) else Group(counts, picture(loop.last))


@picture.register
def _(card: CheckCard) -> RenderableType:
    checks = table(
        card.checks,
        check=lambda c: c.name,
        verdict=lambda c: coloured(c.verdict),
        seen=lambda c: c.detail,
    )
    counts = f"{card.passed_count} passed, {card.failed_count} failed, {card.not_shown_count} not shown"
    printed = [
        panel(plain_text("\n".join(check.printed)), f"what the command printed last: {check.name}")
        for check in card.checks
        if check.printed
    ]
    return Group(checks, *printed, Text(counts, style="bold"))


@picture.register
def _(replay: Replay) -> RenderableType:
    if replay.same:
        return plain_text(f"{replay.turn_id} came to the same again: {replay.now['outcome']}", style="green")
    styles = {"-": "red", "+": "green"}
    lines = [plain_text(line, style=styles.get(line[:1], "")) for line in replay.difference]
    return Group(plain_text(f"{replay.turn_id} came to something else", style="yellow"), *lines)


@picture.register
def _(smoke: SmokeResult) -> RenderableType:
    asked = f"{smoke.from_} asked {smoke.to}: {smoke.offer.purpose or smoke.dispatch.turn_kind}"
    return Group(plain_text(asked), picture(smoke.terminal))


@picture.register
def _(why: Why) -> RenderableType:
    reasons = [words(("→ ", "bold"), reason) for reason in why.because]
    story = table(why.story, when=lambda line: local_time(line.at), what=lambda line: line.text)
    return Group(turn_title(why.turn_id, why.outcome or why.state), *reasons, Text(), story)


@picture.register
def _(diagnosis: Diagnosis) -> RenderableType:
    lines = []
    for check in diagnosis.checks:
        mark = ("✓ ", "bold green") if check.healthy else ("✗ ", "bold red")
        lines.append(words(mark, (check.name, "bold"), "  ", check.message))
        if check.advice:
            lines.append(words(("  → ", "bold"), check.advice))
    return Group(*lines)


# ---------------------------------------------------------------- events


@picture.register
def _(page: FeedPage) -> RenderableType:
    return _events(page.items)


@picture.register
def _(page: EventPage) -> RenderableType:
    return with_diagnostics(page, _events(page.items))


def _events(events: Sequence[LedgerEvent] | Sequence[EventEntry]) -> FittedTable:
    return table(
        events,
        seq=lambda e: str(e.ledger_seq),
        when=lambda e: local_time(e.created_at),
        event=lambda e: e.event_type,
        subject=lambda e: e.subject_id,
        by=lambda e: e.actor_id,
        said=lambda e: _said_with(e.annotations) or e.note or "",
    )


def _said_with(annotations: Mapping[str, Any]) -> str:
    caller = annotations.get("caller") or {}
    return ": ".join(str(caller[name]) for name in ("reason", "note") if caller.get(name))
