"""Building blocks of views: tables, lists of fields, JSON, coloured words and times.

Names, payloads and notes are text of other agents. It becomes a `Text`, never a `str`, which rich would read
as markup, and control characters in it are escaped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.cells import cell_len
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


_MAX_WORD = 20  # a longer one, such as a key made of digits, folds


def screen(*, stderr: bool = False) -> Console:
    """Make a console that shows text without markup, emoji codes or highlighting."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def table(rows: Iterable[Any], **columns: Callable[[Any], str | Text]) -> FittedTable:
    """Draw a table.

    Args:
        rows: one object a row.
        columns: for each column, a function from the row's object to the cell.
    """
    return FittedTable(tuple(columns), [[_cell(cell(row)) for cell in columns.values()] for row in rows])


class FittedTable:
    """A table that keeps words whole: if they need more than the width, each row becomes a block of lines.

    Args:
        names: the columns' names.
        rows: the cells of each row.

    Attributes:
        title: a line above the table; None for none.
    """

    def __init__(self, names: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
        self._names = names
        self._rows = rows
        self.title: Text | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, or the blocks; rich calls it."""
        if self.title is not None:
            yield self.title
        if not self._rows:
            yield Text("nothing", style="dim")
            return
        least = [self._longest_word(column) for column in range(len(self._names))]
        spare = options.max_width - sum(least) - len(least)
        yield self._blocks() if spare < 0 else self._table(self._widened(least, spare))

    def _longest_word(self, column: int) -> int:
        cells = (row[column].plain for row in self._rows)
        words_of_column = [self._names[column], *(word for cell in cells for word in cell.split())]
        return min(max(cell_len(word) for word in words_of_column), _MAX_WORD)

    def _widened(self, widths: Sequence[int], spare: int) -> list[int]:
        """Give the spare width to the columns whose longest line needs it, from the left.

        rich's own arithmetic makes a table one character wider than the terminal now and then.
        """
        widened = []
        for column, width in enumerate(widths):
            longest = max(cell_len(line) for row in self._rows for line in row[column].plain.split("\n"))
            more = max(min(longest - width, spare), 0)
            widened.append(width + more)
            spare -= more
        return widened

    def _table(self, widths: Sequence[int]) -> Table:
        drawn = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
        for name, width in zip(self._names, widths, strict=True):
            drawn.add_column(name, overflow="fold", width=width)
        for row in self._rows:
            drawn.add_row(*row)
        return drawn

    def _blocks(self) -> Group:
        blocks: list[RenderableType] = []
        for row in self._rows:
            facts = [(name, cell) for name, cell in zip(self._names, row, strict=True) if cell.plain]
            blocks += [fields(facts), Text()]
        return Group(*blocks[:-1])


def _cell(value: str | Text) -> Text:
    return value if isinstance(value, Text) else plain_text(value)


def with_diagnostics(page: Any, drawn: RenderableType) -> RenderableType:
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


def short_time(instant: datetime, now: datetime | None = None) -> str:
    """Write an instant in one word if it is of today, for a column of a table.

    Args:
        instant: the instant.
        now: the present; None is the present of this machine.
    """
    local = instant.astimezone()
    is_today = local.date() == (now or datetime.now().astimezone()).date()
    return local.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M")


def duration(seconds: float) -> str:
    """Write a duration in one word: its unit never begins a line."""
    return f"{seconds:.1f}\u00a0s"


def local_time(instant: datetime | None) -> str:
    """Write an instant in the time zone of this machine; None is empty."""
    return "" if instant is None else instant.astimezone().strftime("%Y-%m-%d %H:%M:%S")
