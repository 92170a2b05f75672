"""Draw sequence diagrams: the four ways in which a claim reaches a worker, and a worker that is killed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from attrs import frozen

_WORKER, _KERNEL, _DATABASE, _REQUESTER = "worker", "kernel", "database", "requester"
_OTHER = "other worker"
_LANES: Mapping[str, int] = {_REQUESTER: 70, _WORKER: 255, _KERNEL: 535, _DATABASE: 735, _OTHER: 735}
_WIDTH, _TOP, _ROW = 800, 64, 40
_LOST = "#b33"


@frozen
class Message:
    """A message from one lane to another; a lost one does not arrive."""

    source: str
    target: str
    text: str
    lost: bool = False


@frozen
class Note:
    """A note about what a lane does meanwhile."""

    lane: str
    text: str


LONG_POLL = (
    Message(_WORKER, _KERNEL, "claims:claim, wait=50, key K"),
    Message(_KERNEL, _DATABASE, "claim: no turn"),
    Note(_KERNEL, "waits for news, holds no connection"),
    Message(_DATABASE, _KERNEL, "news: work"),
    Message(_KERNEL, _DATABASE, "claim: T-7, K"),
    Message(_KERNEL, _WORKER, "T-7 with token 1", lost=True),
    Message(_WORKER, _KERNEL, "claims:claim, wait=50, key K"),
    Message(_KERNEL, _DATABASE, "K: T-7, token 2"),
    Message(_KERNEL, _WORKER, "T-7 with token 2; token 1 is void"),
)

MANY = (
    Note(_WORKER, "agent A has 3 free slots, agent B has 1"),
    Message(_WORKER, _KERNEL, "claim-many: A (3, key K), B (1, key L)"),
    Message(_KERNEL, _DATABASE, "claim all"),
    Message(_KERNEL, _WORKER, "A: T-7, T-8; B: T-9", lost=True),
    Message(_WORKER, _KERNEL, "claim-many: A (3, key K)"),
    Message(_KERNEL, _DATABASE, "K: T-7, K#1: T-8"),
    Message(_KERNEL, _WORKER, "A: T-7, T-8, with fresh tokens"),
    Message(_WORKER, _KERNEL, "claims:claim for B, key L"),
    Message(_KERNEL, _DATABASE, "L: T-9"),
    Message(_KERNEL, _WORKER, "B: T-9, with a fresh token"),
)

NEXT = (
    Note(_WORKER, "T-7 has a result, and there was work"),
    Message(_WORKER, _KERNEL, "settle-many: T-7, next key K"),
    Message(_KERNEL, _DATABASE, "finish T-7"),
    Message(_KERNEL, _DATABASE, "claim: T-8, K"),
    Message(_KERNEL, _WORKER, "T-7 is closed, next: T-8", lost=True),
    Message(_WORKER, _KERNEL, "settle-many: T-7, next key K"),
    Message(_KERNEL, _DATABASE, "T-7: known"),
    Message(_KERNEL, _DATABASE, "K: T-8, token 2"),
    Message(_KERNEL, _WORKER, "T-7 is closed, next: T-8, token 2"),
)

HANDED_OVER = (
    Message(_WORKER, _KERNEL, "claims:claim, wait=50, key K"),
    Message(_KERNEL, _DATABASE, "claim: no turn"),
    Note(_KERNEL, "the claim is parked"),
    Message(_REQUESTER, _KERNEL, "turns:dispatch to the worker's agent"),
    Message(_KERNEL, _DATABASE, "dispatch + claim"),
    Note(_DATABASE, "T-7 is born running"),
    Message(_KERNEL, _REQUESTER, "T-7"),
    Message(_KERNEL, _WORKER, "T-7 with token 1", lost=True),
    Message(_WORKER, _KERNEL, "claims:claim, wait=50, key K"),
    Message(_KERNEL, _DATABASE, "K: T-7, token 2"),
    Message(_KERNEL, _WORKER, "T-7 with token 2"),
)

KILLED = (
    Message(_WORKER, _KERNEL, "claim"),
    Message(_KERNEL, _WORKER, "T-7, leased for 30 s"),
    Note(_WORKER, "the handler runs, then: kill -9"),
    Note(_KERNEL, "the lease ends: T-7 is queued again"),
    Message(_OTHER, _KERNEL, "claim"),
    Message(_KERNEL, _OTHER, "T-7, with a new fence"),
    Note(_OTHER, "finished steps are kept"),
    Message(_OTHER, _KERNEL, "finish"),
    Message(_WORKER, _KERNEL, "a late write is refused", lost=True),
)

_HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"
 font-family="sans-serif" font-size="13" role="img" aria-label="{label}">
<!-- Made from docs/claim_travels.py by `make docs`. -->
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M 0 0 L 8 4 L 0 8 z" fill="#456"/></marker></defs>
<rect width="{width}" height="{height}" fill="#fff"/>
"""


def pictures() -> Mapping[str, str]:
    """Return the SVG of each way, by file name."""
    return {
        "worker-killed.svg": _picture("A worker that is killed while it holds a turn", KILLED),
        "claim-long-poll.svg": _picture("A claim by a long poll", LONG_POLL),
        "claim-many.svg": _picture("Claims of many agents in one request", MANY),
        "claim-next.svg": _picture("A claim that goes along with a settle call", NEXT),
        "claim-handed-over.svg": _picture(
            "A turn that a dispatch hands over to a waiting claim", HANDED_OVER
        ),
    }


def _picture(label: str, steps: Sequence[Message | Note]) -> str:
    height = _TOP + _ROW * len(steps) + 8
    used = {lane for step in steps for lane in _lanes_of(step)}
    parts = [_HEAD.format(width=_WIDTH, height=height, label=label)]
    parts += [_lane(name, x, height) for name, x in _LANES.items() if name in used]
    for row, step in enumerate(steps):
        y = _TOP + _ROW * row + 24
        parts += _note(step, y) if isinstance(step, Note) else _message(step, y)
    return "".join([*parts, "</svg>\n"])


def _lanes_of(step: Message | Note) -> tuple[str, ...]:
    return (step.lane,) if isinstance(step, Note) else (step.source, step.target)


def _lane(name: str, x: int, height: int) -> str:
    return (
        f'<path d="M {x} 44 L {x} {height}" stroke="#9ab" stroke-dasharray="3 4"/>\n'
        f'<rect x="{x - 55}" y="12" width="110" height="32" rx="8" fill="#eef4fb" stroke="#456"/>\n'
        f'<text x="{x}" y="33" text-anchor="middle" font-weight="bold" fill="#123">{name}</text>\n'
    )


def _message(step: Message, y: int) -> Iterator[str]:
    """Draw an arrow with its text; the arrow of a lost message ends in a cross."""
    start, end = _LANES[step.source], _LANES[step.target]
    color = _LOST if step.lost else "#456"
    if step.lost:
        end = (start + end) // 2
        yield f'<path d="M {start} {y} L {end} {y}" stroke="{color}"/>\n'
        yield (
            f'<path d="M {end - 6} {y - 6} l 12 12 m 0 -12 l -12 12"'
            f' stroke="{color}" stroke-width="2" fill="none"/>\n'
        )
    else:
        yield f'<path d="M {start} {y} L {end} {y}" stroke="{color}" marker-end="url(#tip)"/>\n'
    middle = (_LANES[step.source] + _LANES[step.target]) // 2
    yield f'<text x="{middle}" y="{y - 8}" text-anchor="middle" fill="{color}">{step.text}</text>\n'


def _note(step: Note, y: int) -> Iterator[str]:
    x = _LANES[step.lane]
    half = 4 * len(step.text)
    x = min(x, _WIDTH - half - 6)
    yield (
        f'<rect x="{x - half}" y="{y - 20}" width="{2 * half}" height="24" rx="4"'
        f' fill="#fff8e5" stroke="#c9b37a"/>\n'
    )
    yield f'<text x="{x}" y="{y - 4}" text-anchor="middle" fill="#543">{step.text}</text>\n'
