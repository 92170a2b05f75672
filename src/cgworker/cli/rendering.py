"""Building blocks of views: tables, lists of fields, JSON, coloured words and times.

Names, payloads and notes are text of other agents. It becomes a `Text`, never a `str`, which rich would read
as markup, and control characters in it are escaped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.highlighter import JSONHighlighter
from rich.panel import Panel
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from cgworker.printable import printable, printable_json
from cgworker.wire.converter import dumps, unstructure

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


def screen(*, stderr: bool = False) -> Console:
    """Make a console that shows text without markup, emoji codes or highlighting."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def table(rows: Iterable[Any], **columns: Callable[[Any], str | Text]) -> Table:
    """Draw a table.

    Args:
        rows: one object a row.
        columns: for each column, a function from the row's object to the cell.
    """
    drawn = Table(box=None, header_style="bold", pad_edge=False, title_justify="left")
    for name in columns:
        drawn.add_column(name, overflow="fold")
    for row in rows:
        drawn.add_row(*(_value(cell(row)) for cell in columns.values()))
    if not drawn.rows:
        drawn.add_row(Text("nothing", style="dim"))
    return drawn


def with_diagnostics(page: Any, drawn: Table) -> RenderableType:
    """Add to the table of a projection what the kernel left out of it, and why."""
    notes = [plain_text(f"! {note.message} ({note.subject_id})", style="yellow") for note in page.diagnostics]
    return Group(drawn, *notes)


def fields(facts: Iterable[tuple[str, Any]]) -> Table:
    """Draw names and values, one pair a line."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(plain_text(name.replace("_", " ")), _value(value))
    return grid


def _value(value: Any) -> RenderableType:
    if isinstance(value, Text):
        return value
    if isinstance(value, datetime):
        return Text(local_time(value))
    if isinstance(value, str):
        return plain_text(value)
    return json_of(value)


def json_of(value: Any) -> RenderableType:
    """Draw a JSON value; a string is drawn as plain text."""
    if isinstance(value, str):
        return plain_text(value)
    text = JSONHighlighter()(printable_json(_indented(value)))
    text.overflow = "fold"  # a long string goes on in the next line
    return text


def _indented(value: Any) -> str:
    try:
        return dumps(value, indented=True).decode()
    except TypeError:  # a file name need not be UTF-8; escapes in ASCII can hold any
        return json.dumps(unstructure(value), indent=2)


def plain_text(text: str, style: str = "") -> Text:
    """Draw text of one or more lines, with control characters escaped."""
    spaced = text.replace("\t", "    ")  # a table measures a tab as nothing
    return Text(printable(spaced, keep="\n"), style=style, overflow="fold")


def words(*parts: str | Text | tuple[str, str]) -> Text:
    """Join texts; a pair is a text and its style."""
    joined = Text(overflow="fold")
    for part in parts:
        joined.append_text(
            part if isinstance(part, Text) else plain_text(*([part] if isinstance(part, str) else part))
        )
    return joined


def panel(content: RenderableType, title: str | Text, subtitle: str | None = None) -> Panel:
    """Draw a frame with a title of one line."""
    heading = title if isinstance(title, Text) else _line(title)
    heading.overflow = "ellipsis"  # shows that the rest does not fit
    return Panel(content, title=heading, title_align="left", subtitle=subtitle and _line(subtitle))


def _line(text: str, style: str = "") -> Text:
    return Text(printable(text, keep=""), style=style)


class Unbroken:
    """A line that is never wrapped, so that it can be copied; print it with `crop=False`."""

    def __init__(self, line: str) -> None:
        self._line = printable(line, keep="")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the line in bold; rich calls it."""
        yield Segment(self._line, console.get_style("bold"))
        yield Segment.line()


def turn_title(name: str, state: str) -> Text:
    """Draw the name of a turn, and its state or outcome in colour."""
    return Text.assemble(_line(name, "bold"), "  ", coloured(state))


def coloured(word: str) -> Text:
    """Draw a state, an outcome, a status, yes or no in its colour."""
    return _line(word, _COLOURS.get(word, ""))


def yes_or_no(fact: bool) -> Text:
    """Draw a fact as yes or no."""
    return coloured("yes" if fact else "no")


def local_time(instant: datetime | None) -> str:
    """Write an instant in the time zone of this machine; None is empty."""
    return "" if instant is None else instant.astimezone().strftime("%Y-%m-%d %H:%M:%S")
