"""Write docs/benchmarks.md: tables and plots of the lines that the rows have printed.

Series with an `at` become curves. "CPU a turn, ..." becomes a stacked bar for each system. A series of many
values becomes its distribution.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.drawing import bars_of, lines_of
from benchmarks.servers import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
LINES = ROOT / "docs" / "benchmarks.jsonl"
PLOTS = ROOT / "docs" / "benchmarks"

_MANY = 30  # a value for each route of row 11 is no distribution
_CPU = "CPU a turn, "

_HEAD = """# Benchmarks

`make bench` writes this page. It runs each row in alternation with its peers, the other systems that do the
same, and stores the output in `docs/benchmarks.jsonl`. `make bench-peers` installs the peers; if one is
missing, the page says so. The machine is shared, so medians and ratios of one run are meaningful, and single
figures are for orientation only. [Where the time goes](explanation/performance.md) explains the figures, and
[Capacity](explanation/capacity.md) says what they mean for a machine.
"""

Line = Mapping[str, Any]
Series = Mapping[str, Any]


def write() -> None:
    """Write the page and its plots anew from the lines."""
    lines = [json.loads(text) for text in LINES.read_text().splitlines()]
    PLOTS.mkdir(exist_ok=True)
    for old in PLOTS.glob("*.svg"):
        old.unlink()
    parts = [_HEAD, _overview(lines), *(_section(line) for line in lines)]
    PAGE.write_text("\n".join(parts))


def _overview(lines: list[Line]) -> str:
    rows = []
    for line in lines:
        what = [f"[{line['row']}](#{_anchor(line)})", line["title"]]
        for goal in line["goals"]:
            rows.append([*what, goal["goal"], goal["came_to"], _met(goal)])
            what = ["", ""]
    return _table(["Row", "What", "Goal", "Result", "Met"], rows)


def _section(line: Line) -> str:
    parts = [
        f"## {line['row']}. {_capital(line['title'])}\n",
        f"Goal: {line['goal']}.\n",
        *(f"![{title}](benchmarks/{name})\n" for title, name in _plots(line)),
        _table(
            ["System", "What", "At", "Minimum", "Median", "Maximum", "Unit"],
            [_row_of(series) for series in line["series"]],
        ),
        *(f"Peer absent: {absent}.\n" for absent in line["absent"]),
        *(f"{_capital(note)}.\n" for note in line["notes"]),
        _conditions(line),
    ]
    return "\n".join(parts)


def _conditions(line: Line) -> str:
    machine, load = line["machine"], line["load"]
    return (
        f"Commit {line['commit']}, {line['began_at']}, {line['rounds']} rounds in"
        f" {line['took_seconds']:.0f} s; {machine['cores']} cores of {machine['cpu']},"
        f" {machine['memory_gib']} GiB, {machine['system']}, Python {machine['python']}; load"
        f" {load['before'][0]:.1f} before and {load['after'][0]:.1f} after.\n"
    )


def _row_of(series: Series) -> list[str]:
    at = f"{series['at']:,.0f}" if "at" in series else ""
    figures = [_figure(series[name]) for name in ("min", "median", "max")]
    return [series["who"], series["what"], at, *figures, series["unit"]]


def _plots(line: Line) -> Iterator[tuple[str, str]]:
    """Draws what can be drawn of a row; yields the title and the file of each."""
    for title, drawn in [*_curves(line), *_splits(line), *_distributions(line)]:
        name = re.sub(r"[^a-z0-9]+", "-", f"{line['row']}-{title}".lower()).strip("-") + ".svg"
        (PLOTS / name).write_text(drawn)
        yield title, name


def _curves(line: Line) -> Iterator[tuple[str, str]]:
    curves = [series for series in line["series"] if "at" in series]
    if not curves:
        return
    is_one = len({series["what"] for series in curves}) == 1
    lines: dict[str, list[tuple[float, float]]] = {}
    for series in sorted(curves, key=lambda series: float(series["at"])):
        lines.setdefault(series["who" if is_one else "what"], []).append((series["at"], series["median"]))
    title = curves[0]["what"] if is_one else "growth"
    by = next((axis for axis in ("connections", "agents") if axis in title), "size")
    yield title, lines_of(_capital(title), by, curves[0]["unit"], lines, log_x=True, log_y=True)


def _splits(line: Line) -> Iterator[tuple[str, str]]:
    bars: dict[str, dict[str, float]] = {}
    for series in line["series"]:
        if series["what"].startswith(_CPU):
            bars.setdefault(series["who"], {})[series["what"].removeprefix(_CPU)] = series["median"]
    if bars:
        yield "CPU time a turn", bars_of("CPU time a turn", "ms", bars)


def _distributions(line: Line) -> Iterator[tuple[str, str]]:
    many: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for series in line["series"]:
        values = sorted(series["values"])
        if len(values) >= _MANY:
            shares = [(value, (place + 1) / len(values) * 100) for place, value in enumerate(values)]
            many.setdefault((series["what"], series["unit"]), {})[series["who"]] = shares
    for (what, unit), lines in many.items():
        title = f"distribution of {what}"
        yield title, lines_of(_capital(title), unit, "% at most", lines, log_x=True)


# ---------------------------------------------------------------- words


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def _anchor(line: Line) -> str:
    words = re.sub(r"[^\w\s-]", "", f"{line['row']}. {line['title']}".lower())
    return re.sub(r"[-\s]+", "-", words).strip("-")


def _met(goal: Mapping[str, Any]) -> str:
    return "yes" if goal["is_met"] else "no"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
