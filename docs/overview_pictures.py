"""Draw who talks to whom: once for the first page, once for the page of the architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen


@frozen
class Box:
    """A box: its middle, its half width, and its lines of text."""

    x: int
    y: int
    half: int
    lines: tuple[str, ...]


@frozen
class Arrow:
    """An arrow between two points, and its text with where that is written; without a tip, a line."""

    path: str
    text: str = ""
    at: tuple[int, int] = (0, 0)
    has_tip: bool = True


_FIRST_PAGE = (
    (
        Box(90, 60, 80, ("you,", "or a program")),
        Box(350, 60, 70, ("kernel", "PostgreSQL")),
        Box(660, 60, 60, ("worker",)),
        Box(660, 160, 90, ("your function", "or command")),
    ),
    (
        Arrow("M 170 60 L 278 60", "dispatch,", (224, 36)),
        Arrow("", "answer, stop", (224, 50)),
        Arrow("M 420 50 L 598 50", "a turn, under a lease", (510, 42)),
        Arrow("M 600 72 L 422 72", "records, questions, the result", (510, 90)),
        Arrow("M 660 84 L 660 136", has_tip=False),
    ),
)
_ARCHITECTURE = (
    (
        Box(110, 50, 90, ("cg, cg console",)),
        Box(330, 50, 90, ("your application",)),
        Box(550, 50, 90, ("worker:", "your handlers")),
        Box(330, 190, 110, ("kernel: routes,", "maintenance, timers")),
        Box(330, 310, 70, ("PostgreSQL",)),
        Box(690, 190, 80, ("outbox on disk",)),
    ),
    (
        Arrow("M 110 74 L 260 164"),
        Arrow("M 320 74 L 320 164"),
        Arrow("M 550 74 L 400 164", "HTTP: wire/", (240, 112)),
        Arrow("M 600 74 L 680 164", "a result, while it is sent", (715, 112)),
        Arrow("M 320 214 L 320 284", "SQL", (290, 254)),
        Arrow("M 345 286 L 345 216", "NOTIFY: a turn is queued", (440, 254)),
    ),
)
_HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 {height}"
 font-family="sans-serif" font-size="14" role="img" aria-label="{label}">
<!-- Made from docs/overview_pictures.py by `make docs`. -->
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M 0 0 L 8 4 L 0 8 z" fill="#456"/></marker></defs>
<rect width="800" height="{height}" fill="#fff"/>
"""


def pictures() -> Mapping[str, str]:
    """Return the SVGs, by their paths below docs/."""
    return {
        "who-talks.svg": _picture("You, the kernel and a worker", 200, *_FIRST_PAGE),
        "explanation/architecture.svg": _picture("Programs, kernel and database", 350, *_ARCHITECTURE),
    }


def _picture(label: str, height: int, boxes: Sequence[Box], arrows: Sequence[Arrow]) -> str:
    parts = [_HEAD.format(label=label, height=height), *map(_arrow, arrows), *map(_box, boxes)]
    return "".join([*parts, "</svg>\n"])


def _arrow(arrow: Arrow) -> str:
    tip = ' marker-end="url(#tip)"' if arrow.has_tip else ""
    line = f'<path d="{arrow.path}" stroke="#456" fill="none"{tip}/>\n' if arrow.path else ""
    x, y = arrow.at
    text = f'<text x="{x}" y="{y}" text-anchor="middle" font-size="12" fill="#345">{arrow.text}</text>\n'
    return line + (text if arrow.text else "")


def _box(box: Box) -> str:
    x, y = box.x - box.half, box.y - 24
    drawn = (
        f'<rect x="{x}" y="{y}" width="{2 * box.half}" height="48" rx="10" fill="#eef4fb" stroke="#456"/>\n'
    )
    first = box.y + 5 - 9 * (len(box.lines) - 1)
    return drawn + "".join(
        f'<text x="{box.x}" y="{first + 18 * line}" text-anchor="middle" fill="#123">{text}</text>\n'
        for line, text in enumerate(box.lines)
    )
