"""What a person sees on a terminal: one picture per type of result, and a plain one for the rest.

Programs never see any of this: without a terminal, or with --json, the envelope is all there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import singledispatch
from typing import Any

import attrs
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cgworker.cli.problems import Problem
from cgworker.cli.rendering import (
    Unbroken,
    coloured,
    fields,
    json_of,
    local_time,
    panel,
    plain_text,
    screen,
    table,
    turn_title,
    with_diagnostics,
    words,
    yes_or_no,
)
from cgworker.cli.results import (
    AgentResult,
    Diagnosis,
    DrainedAgent,
    InviteResult,
    JoinedAgent,
    Questions,
    ResumedAgent,
    SmokeResult,
    TurnResult,
    Why,
)
from cgworker.cli.worker_results import CheckCard, LoopResult, NothingClaimed, Replay, WorkedTurn
from cgworker.wire.admission import InviteList
from cgworker.wire.agents import AgentSnapshot
from cgworker.wire.converter import dumps, unstructure
from cgworker.wire.credentials import Credentials
from cgworker.wire.ledger import FeedPage, LedgerEvent
from cgworker.wire.projections import (
    AgentPage,
    EventEntry,
    EventPage,
    Lineage,
    OfferPage,
    TurnEntry,
    TurnPage,
)
from cgworker.wire.records import SemanticItem, TurnContext


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


@singledispatch
def picture(result: Any) -> RenderableType:
    """Draw a result: its fields, if its class has no view of its own."""
    content = unstructure(result) if attrs.has(type(result)) else result
    if isinstance(content, Mapping):
        return fields(content.items())
    return json_of(content)


# ---------------------------------------------------------------- turns


@picture.register
def _(turn: TurnResult) -> RenderableType:
    snapshot = turn.snapshot
    facts = [
        ("agent", turn.agent_id),
        ("kind", snapshot.turn_kind),
        ("asked by", f"{snapshot.cause.kind} {snapshot.cause.id}"),
        ("born", snapshot.created_at),
        ("closed", snapshot.closed_at),
        ("lease until", snapshot.claim_expires_at),
        ("stop", "requested" if snapshot.stop_requested else None),
    ]
    lines: list[RenderableType] = [fields((name, value) for name, value in facts if value is not None)]
    if snapshot.final_cardbox_ref is not None:
        lines.append(panel(json_of(turn.final_payload), turn.final_record_role or ""))
    return panel(Group(*lines), turn_title(turn.turn_id, turn.outcome or turn.state))


@picture.register
def _(context: TurnContext) -> RenderableType:
    title = turn_title(context.turn.turn.turn_id, context.turn.outcome or context.turn.state)
    return Group(title, *(_record(item) for item in context.semantic_items))


@picture.register
def _record(item: SemanticItem) -> RenderableType:
    title = f"{item.record.turn_seq}  {item.record.record_role}"
    return panel(json_of(item.payload), title, subtitle=local_time(item.record.created_at))


@picture.register
def _(found: Questions) -> RenderableType:
    if not found.items:
        return Text("nothing is asked", style="dim")
    return table(
        found.items,
        turn=lambda q: q.turn.turn_id,
        agent=lambda q: q.agent.agent_id,
        key=lambda q: q.key,
        asks=lambda q: q.question if isinstance(q.question, str) else dumps(q.question).decode(),
        since=lambda q: local_time(q.asked_at),
    )


@picture.register
def _(page: TurnPage) -> RenderableType:
    return with_diagnostics(page, _turns(page.items))


@picture.register
def _(lineage: Lineage) -> RenderableType:
    table = _turns([lineage.parent, *lineage.direct_children])
    table.title = plain_text(f"{lineage.turn_id} and its children")
    return with_diagnostics(lineage, table)


def _turns(turns: Iterable[TurnEntry]) -> Table:
    return table(
        turns,
        turn=lambda t: t.turn_id,
        agent=lambda t: t.target_agent_id,
        kind=lambda t: t.turn_kind,
        state=lambda t: coloured(t.outcome or t.state),
        cause=lambda t: t.cause_id,
        born=lambda t: local_time(t.created_at),
        took=lambda t: "" if t.closed_at is None else f"{(t.closed_at - t.created_at).total_seconds():.1f} s",
    )


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
    return Group(checks, Text(counts, style="bold"))


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


def _events(events: Sequence[LedgerEvent] | Sequence[EventEntry]) -> Table:
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


# ---------------------------------------------------------------- agents, offers, credentials, invites


@picture.register
def _(page: AgentPage) -> RenderableType:
    agents = table(
        page.items,
        agent=lambda a: a.agent_id,
        role=lambda a: a.role or "",
        enabled=lambda a: yes_or_no(a.enabled),
        work=lambda a: yes_or_no(a.accepts_work),
        can=lambda a: "\n".join(a.capabilities),
        grants=lambda a: "\n".join(a.grants or ()),
        seen=lambda a: local_time(a.last_seen_at),
    )
    return with_diagnostics(page, agents)


@picture.register
def _(page: OfferPage) -> RenderableType:
    offers = table(
        page.items,
        agent=lambda o: o.agent_id,
        kind=lambda o: o.turn_kind,
        purpose=lambda o: o.purpose or "",
        enabled=lambda o: yes_or_no(o.enabled),
        work=lambda o: yes_or_no(o.accepts_work),
    )
    return with_diagnostics(page, offers)


@picture.register
def _(agent: AgentSnapshot) -> RenderableType:
    facts: list[tuple[str, Any]] = [
        ("role", agent.role),
        ("description", agent.description),
        ("enabled", yes_or_no(agent.enabled)),
        ("accepts work", yes_or_no(agent.accepts_work)),
        ("capacity", agent.capacity),
        ("can", ", ".join(agent.capabilities)),
        ("grants", ", ".join(agent.grants)),
        ("born", agent.created_at),
        ("last seen", agent.last_seen_at),
    ]
    return panel(fields((name, value) for name, value in facts if value not in (None, "")), str(agent.agent))


@picture.register(AgentResult | DrainedAgent | ResumedAgent)
def _(agent: AgentResult | DrainedAgent | ResumedAgent) -> RenderableType:
    return picture(agent.snapshot)


@picture.register
def _(credentials: Credentials) -> RenderableType:
    return table(
        credentials.credentials,
        credential=lambda c: c.credential_id,
        status=lambda c: coloured(c.status),
        issued=lambda c: local_time(c.created_at),
        by=lambda c: c.issued_by_agent_id or "",
        used=lambda c: local_time(c.last_used_at),
        expires=lambda c: local_time(c.expires_at),
        revoked=lambda c: local_time(c.revoked_at),
    )


@picture.register
def _(invites: InviteList) -> RenderableType:
    return table(
        invites.invites,
        invite=lambda i: i.invite_id,
        agent=lambda i: i.agent_id,
        uses=lambda i: f"{i.use_count} of {i.max_uses}",
        expires=lambda i: local_time(i.expires_at),
        works=lambda i: yes_or_no(not i.disabled and i.use_count < i.max_uses),
    )


@picture.register
def _(invite: InviteResult) -> RenderableType:
    invited = f"{invite.agent_id} may join {invite.project_id} until {local_time(invite.invite.expires_at)}."
    return Group(
        plain_text(invited),
        plain_text("Send this, once and in private:\n"),
        Unbroken(f"  {invite.join_command}"),
    )


@picture.register
def _(joined: JoinedAgent) -> RenderableType:
    return words(
        ("✓ ", "bold green"), "this machine is now ", (joined.profile, "bold"), f" at {joined.base_url}\n",
        ("→ ", "bold"), f"cg worker loop --profile {joined.profile} --command YOUR-COMMAND",
    )  # fmt: skip
