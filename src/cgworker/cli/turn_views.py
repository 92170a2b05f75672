"""How turns, their records and their questions look on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from cgworker.cli.forms import command_that_answers, form_of
from cgworker.cli.picture import picture
from cgworker.cli.rendering import (
    FittedTable,
    Unbroken,
    coloured,
    duration,
    fields,
    json_of,
    local_time,
    panel,
    plain_text,
    short_time,
    table,
    turn_title,
    with_diagnostics,
    words,
)
from cgworker.cli.results import AskedTurn, TurnResult
from cgworker.cli.turn_results import OpenQuestions
from cgworker.durable.answers import OpenQuestion
from cgworker.lifecycle import TurnOutcome
from cgworker.wire.projections import Lineage, TurnEntry, TurnPage
from cgworker.wire.records import SemanticItem, TurnContext


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
def _(asked: AskedTurn) -> RenderableType:
    payload = asked.final_payload
    if asked.outcome == TurnOutcome.SUCCEEDED:
        text = payload.get("text") if isinstance(payload, Mapping) and len(payload) == 1 else None
        return plain_text(text) if isinstance(text, str) else json_of(payload)
    return Group(
        words(("✗ ", "bold red"), (asked.turn_id, "bold"), "  ", coloured(asked.outcome or asked.state)),
        json_of(payload),
        words(("→ ", "bold"), f"cg worker why {asked.turn_id}"),
    )


@picture.register
def _(context: TurnContext) -> RenderableType:
    title = turn_title(context.turn.turn.turn_id, context.turn.outcome or context.turn.state)
    return Group(title, *(_record(item) for item in context.semantic_items))


@picture.register
def _record(item: SemanticItem) -> RenderableType:
    title = f"{item.record.turn_seq}  {item.record.record_role}"
    return panel(json_of(item.payload), title, subtitle=local_time(item.record.created_at))


@picture.register
def _(questions: OpenQuestions) -> RenderableType:
    if not questions.items:
        return Text("nothing is asked", style="dim")
    return Group(*(_question(each) for each in questions.items))


def _question(question: OpenQuestion) -> RenderableType:
    title = words(
        (question.turn.turn_id, "bold"), f"  {question.agent.agent_id} asks  ", (question.key, "dim")
    )
    return Group(
        title,
        Padding(json_of(question.question), (0, 0, 0, 2)),
        words(
            ("  answer ", "dim"), form_of(question.schema), ("  since ", "dim"), local_time(question.asked_at)
        ),
        Unbroken(f"  {command_that_answers(question)}"),
        Text(),
    )


@picture.register
def _(page: TurnPage) -> RenderableType:
    return with_diagnostics(page, _turns(page.items))


@picture.register
def _(lineage: Lineage) -> RenderableType:
    table = _turns([lineage.parent, *lineage.direct_children])
    table.title = plain_text(f"{lineage.turn_id} and its children")
    return with_diagnostics(lineage, table)


def _turns(turns: Iterable[TurnEntry]) -> FittedTable:
    return table(
        turns,
        turn=lambda t: t.turn_id,
        agent=lambda t: t.target_agent_id,
        kind=lambda t: t.turn_kind,
        state=lambda t: coloured(t.outcome or t.state),
        cause=lambda t: t.cause_id,
        born=lambda t: short_time(t.created_at),
        took=lambda t: "" if t.closed_at is None else duration((t.closed_at - t.created_at).total_seconds()),
    )
