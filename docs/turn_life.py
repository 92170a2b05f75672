"""Draw the life of a turn. Its arrows come from the table in `lifecycle.py`; only the layout is set here."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from cgworker.lifecycle import TRANSITIONS, TurnState

QUEUED, RUNNING, SUSPENDED, CLOSED = (
    TurnState.QUEUED,
    TurnState.RUNNING,
    TurnState.SUSPENDED,
    TurnState.CLOSED,
)

_PLACES = {QUEUED: (150, 130), RUNNING: (430, 130), CLOSED: (710, 130), SUSPENDED: (290, 320)}
_HALF_WIDTH, _HALF_HEIGHT = 62, 24


@frozen
class Arrow:
    """The path of an arrow, and the place of its first line of text."""

    path: str
    text_at: tuple[int, int]
    anchor: str = "middle"


_ARROWS = {
    (QUEUED, RUNNING): Arrow("M 212 122 L 362 122", (287, 114)),
    (RUNNING, QUEUED): Arrow("M 368 142 L 218 142", (290, 160)),
    (RUNNING, CLOSED): Arrow("M 492 130 L 642 130", (567, 104)),
    (RUNNING, SUSPENDED): Arrow("M 400 154 L 325 291", (378, 228), "start"),
    (SUSPENDED, QUEUED): Arrow("M 255 296 L 180 159", (202, 228), "end"),
    (QUEUED, QUEUED): Arrow("M 130 106 C 110 50, 190 50, 168 103", (150, 56)),
    (RUNNING, RUNNING): Arrow("M 410 106 C 390 50, 470 50, 448 103", (430, 8)),
    (CLOSED, CLOSED): Arrow("M 690 106 C 670 50, 750 50, 728 103", (710, 56)),
    (SUSPENDED, SUSPENDED): Arrow("M 352 310 C 420 290, 420 350, 356 334", (412, 324), "start"),
}

_HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -10 800 370"
 font-family="sans-serif" font-size="13" role="img"
 aria-label="The states of a turn and what leads from one to another">
<!-- Made from lifecycle.py by `make docs`. -->
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M 0 0 L 8 4 L 0 8 z" fill="#456"/></marker></defs>
<rect x="0" y="-10" width="800" height="370" fill="#fff"/>
<path d="M 20 130 L 82 130" stroke="#456" fill="none" marker-end="url(#tip)"/>
<text x="14" y="120" fill="#345">dispatch</text>
"""


def picture() -> str:
    """Return the picture as an SVG."""
    return _HEAD + "".join([*_arrows(), *map(_box, TurnState)]) + "</svg>\n"


def _arrows() -> Iterator[str]:
    events: dict[tuple[TurnState, TurnState], list[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        events.setdefault((before, after), []).append(str(event))
    for pair, names in events.items():
        arrow = _ARROWS[pair]
        yield f'<path d="{arrow.path}" stroke="#456" fill="none" marker-end="url(#tip)"/>\n'
        yield from (_text(arrow, line, name) for line, name in enumerate(names))


def _text(arrow: Arrow, line: int, text: str) -> str:
    x, y = arrow.text_at
    return f'<text x="{x}" y="{y + 15 * line}" text-anchor="{arrow.anchor}" fill="#345">{text}</text>\n'


def _box(state: TurnState) -> str:
    x, y = _PLACES[state]
    size = f'width="{2 * _HALF_WIDTH}" height="{2 * _HALF_HEIGHT}" rx="10"'
    return (
        f'<rect x="{x - _HALF_WIDTH}" y="{y - _HALF_HEIGHT}" {size} fill="#eef4fb" stroke="#456"/>\n'
        f'<text x="{x}" y="{y + 5}" text-anchor="middle" font-weight="bold" fill="#123">{state}</text>\n'
    )
