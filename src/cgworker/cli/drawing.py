"""What pictures are made of: tables, lists of facts, JSON, words in colours, instants."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.json import JSON
from rich.table import Table
from rich.text import Text

from cgworker.wire.converter import dumps

_COLOURS = {
    "queued": "cyan",
    "running": "blue",
    "suspended": "yellow",
    "succeeded": "green",
    "failed": "red",
    "stopped": "magenta",
    "active": "green",
    "passed": "green",
    "not shown": "yellow",
    "revoked": "red",
    "yes": "green",
    "no": "red",
}


def table(rows: Iterable[Any], **columns: Callable[[Any], str | Text]) -> Table:
    """A row per thing; each column says what it shows of one."""
    drawn = Table(box=None, header_style="bold", pad_edge=False, title_justify="left")
    for name in columns:
        drawn.add_column(name, overflow="fold")
    for row in rows:
        drawn.add_row(*(_value(cell(row)) for cell in columns.values()))
    if not drawn.rows:
        drawn.add_row(Text("nothing", style="dim"))
    return drawn


def with_diagnostics(page: Any, drawn: Table) -> RenderableType:
    """A projection's table, and what the kernel left out of it and why."""
    notes = [Text(f"! {note.message} ({note.subject_id})", style="yellow") for note in page.diagnostics]
    return Group(drawn, *notes)


def fields(facts: Iterable[tuple[str, Any]]) -> Table:
    """Names and values, one pair a line."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(name.replace("_", " "), _value(value))
    return grid


def _value(value: Any) -> RenderableType:
    if isinstance(value, Text):
        return value
    if isinstance(value, datetime):
        return when(value)
    if isinstance(value, str):
        return plain(value)
    return json_of(value)


def json_of(value: Any) -> RenderableType:
    """A JSON value; a string as the text it is."""
    return plain(value) if isinstance(value, str) else JSON(dumps(value).decode())


def plain(text: str) -> Text:
    """A text as it is, but for what would play tricks with the terminal: others wrote it."""
    return Text("".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text))


def titled(name: str, state: str) -> Text:
    """The name of a turn, and its state or outcome in its colour."""
    return Text.assemble((name, "bold"), "  ", coloured(state))


def coloured(word: str) -> Text:
    """A state, outcome, status, yes or no, in its colour."""
    return Text(word, style=_COLOURS.get(word, ""))


def yes_or_no(fact: bool) -> Text:
    """Whether it is so."""
    return coloured("yes" if fact else "no")


def when(instant: datetime | None) -> str:
    """An instant in the reader's own time zone."""
    return "" if instant is None else instant.astimezone().strftime("%Y-%m-%d %H:%M:%S")
