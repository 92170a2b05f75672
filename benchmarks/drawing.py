"""Plots as plain SVG: lines on linear or log axes, and stacked bars; to be read on light and on dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from attrs import frozen

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 190, 34, 46
_COLOURS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e", "#a6761d", "#666666")
_GREY = "#888888"


@frozen
class Axis:
    """One axis: where values lie on it, from 0 to 1."""

    label: str
    least: float
    most: float
    is_log: bool

    @classmethod
    def over(cls, label: str, values: Iterable[float], *, is_log: bool) -> Axis:
        """An axis that holds the values; a log one begins and ends at powers of ten."""
        found = [value for value in values if value > 0 or not is_log]
        if not is_log:
            return cls(label, 0, _rounded_up(max(found)), is_log=False)
        least, most = math.floor(math.log10(min(found))), math.ceil(math.log10(max(found)))
        return cls(label, 10.0**least, 10.0 ** max(most, least + 1), is_log=True)

    def share(self, value: float) -> float:
        """Where the value lies."""
        if self.is_log:
            return math.log(max(value, self.least) / self.least) / math.log(self.most / self.least)
        return (value - self.least) / (self.most - self.least)

    def ticks(self) -> list[float]:
        """Values to write beside it."""
        if self.is_log:
            return [
                10.0**power
                for power in range(round(math.log10(self.least)), round(math.log10(self.most)) + 1)
            ]
        return [self.most * step / 5 for step in range(6)]


def lines_of(
    title: str, x: str, y: str, lines: Mapping[str, Points], *, log_x: bool = False, log_y: bool = False
) -> str:
    """A line for each name.

    Args:
        x: what its values are, with their unit; `y` as well.
    """
    points = [point for line in lines.values() for point in line]
    across = Axis.over(x, (point[0] for point in points), is_log=log_x)
    up = Axis.over(y, (point[1] for point in points), is_log=log_y)
    parts = [_frame(title, across, up)]
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [(_x(across.share(a)), _y(up.share(b))) for a, b in line]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(places) < 20:
            parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in places]
        parts.append(_legend(number, name, colour))
    return _svg(parts)


def bars_of(title: str, y: str, bars: Mapping[str, Mapping[str, float]]) -> str:
    """A bar for each name, stacked of its parts."""
    kinds = list(dict.fromkeys(part for parts in bars.values() for part in parts))
    up = Axis.over(y, (sum(parts.values()) for parts in bars.values()), is_log=False)
    drawn = [_frame(title, None, up)]
    width = (_WIDTH - _LEFT - _RIGHT) / len(bars)
    for number, (name, parts) in enumerate(bars.items()):
        left, height = _LEFT + width * (number + 0.2), 0.0
        for part, value in parts.items():
            top, bottom = _y(up.share(height + value)), _y(up.share(height))
            colour = _COLOURS[kinds.index(part) % len(_COLOURS)]
            drawn.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{width * 0.6:.1f}" height="{bottom - top:.1f}"'
                f' fill="{colour}"/>'
            )
            height += value
        drawn.append(_text(left + width * 0.3, _HEIGHT - _BOTTOM + 16, name, "middle", 10))
    drawn += [_legend(number, kind, _COLOURS[number % len(_COLOURS)]) for number, kind in enumerate(kinds)]
    return _svg(drawn)


def _frame(title: str, across: Axis | None, up: Axis) -> str:
    parts = [_text(_LEFT, 20, title, "start", 14)]
    for value in up.ticks():
        height = _y(up.share(value))
        parts.append(
            f'<path d="M{_LEFT} {height:.1f}H{_WIDTH - _RIGHT}" stroke="{_GREY}" stroke-width="0.4"/>'
        )
        parts.append(_text(_LEFT - 6, height + 4, _spelled(value), "end"))
    parts.append(_text(_LEFT, _TOP - 4, up.label, "start", 10))
    if across is not None:
        for value in across.ticks():
            parts.append(_text(_x(across.share(value)), _HEIGHT - _BOTTOM + 16, _spelled(value), "middle"))
        parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, across.label, "middle"))
    return "".join(parts)


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _legend(number: int, name: str, colour: str) -> str:
    top = _TOP + 10 + 18 * number
    square = f'<rect x="{_WIDTH - _RIGHT + 12}" y="{top - 9}" width="10" height="10" fill="{colour}"/>'
    return square + _text(_WIDTH - _RIGHT + 27, top, name, "start", 10)


def _text(x: float, y: float, words: str, anchor: str, size: int = 11) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{_GREY}">'
        f"{escape(words)}</text>"
    )


def _svg(parts: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">'
    )
    return head + "\n" + "\n".join(parts) + "\n</svg>\n"


def _rounded_up(value: float) -> float:
    """The next number that divides well."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * power >= value)


def _spelled(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
