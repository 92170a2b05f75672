"""What pictures are made of: tables, lists of facts, JSON, words in colours, instants.

Names, payloads and notes are other agents' text. It becomes a `Text` here, never a `str`, which rich would
read for markup, and whatever could play tricks with the terminal is spelled out in it.
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
    """A terminal that shows text as it is."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


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
    notes = [plain_text(f"! {note.message} ({note.subject_id})", style="yellow") for note in page.diagnostics]
    return Group(drawn, *notes)


def fields(facts: Iterable[tuple[str, Any]]) -> Table:
    """Names and values, one pair a line."""
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
    """A JSON value; a string as the text it is."""
    if isinstance(value, str):
        return plain_text(value)
    text = JSONHighlighter()(printable_json(_indented(value)))
    text.overflow = "fold"  # a long string goes on in the next line
    return text


def _indented(value: Any) -> str:
    try:
        return dumps(value, indented=True).decode()
    except TypeError:  # the name of a file need not be UTF-8; in ASCII it can be told
        return json.dumps(unstructure(value), indent=2)


def plain_text(text: str, style: str = "") -> Text:
    """A text of several lines as it is, but for what would play tricks with the terminal."""
    spaced = text.replace("\t", "    ")  # a table measures a tab as nothing
    return Text(printable(spaced, keep="\n"), style=style, overflow="fold")


def words(*parts: str | Text | tuple[str, str]) -> Text:
    """Texts one after the other; a pair is a text and its style."""
    told = Text(overflow="fold")
    for part in parts:
        told.append_text(
            part if isinstance(part, Text) else plain_text(*([part] if isinstance(part, str) else part))
        )
    return told


def panel(content: RenderableType, title: str | Text, subtitle: str | None = None) -> Panel:
    """A frame around something; its title is one line."""
    heading = title if isinstance(title, Text) else _line(title)
    heading.overflow = "ellipsis"  # what does not fit is seen to be missing
    return Panel(content, title=heading, title_align="left", subtitle=subtitle and _line(subtitle))


def _line(text: str, style: str = "") -> Text:
    return Text(printable(text, keep=""), style=style)


class Unbroken:
    """A line that stays one, however long, so that it can be copied; it needs `print(crop=False)`."""

    def __init__(self, line: str) -> None:
        self._line = printable(line, keep="")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The line in bold."""
        yield Segment(self._line, console.get_style("bold"))
        yield Segment.line()


def turn_title(name: str, state: str) -> Text:
    """The name of a turn, and its state or outcome in its colour."""
    return Text.assemble(_line(name, "bold"), "  ", coloured(state))


def coloured(word: str) -> Text:
    """A state, outcome, status, yes or no, in its colour."""
    return _line(word, _COLOURS.get(word, ""))


def yes_or_no(fact: bool) -> Text:
    """Whether it is so."""
    return coloured("yes" if fact else "no")


def local_time(instant: datetime | None) -> str:
    """An instant in the reader's own time zone."""
    return "" if instant is None else instant.astimezone().strftime("%Y-%m-%d %H:%M:%S")
