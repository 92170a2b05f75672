"""Text of agents on a page: cut to a length, made safe to read, and JSON laid out."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from cgworker.printable import printable
from cgworker.wire.absent import ABSENT
from cgworker.wire.converter import dumps

MAX_CHARACTERS = 4000
_COMMAND = re.compile(r"`(cg [^`]{1,200})`")
_BEYOND_ASCII = re.compile(r"[^\x00-\x7e]+")


def shown(value: object, limit: int = MAX_CHARACTERS) -> str:
    r"""Return a value as text of at most `limit` characters, with a note of how much was cut.

    Controls and direction marks are spelled out, such as `\u202e`, so that no text can pose as another.

    Args:
        value: the value; None and an absent one are empty.
        limit: how many characters to keep.
    """
    if value is None or value is ABSENT:
        return ""
    text = str(value)
    cut = f" … ({len(text):,} characters)" if len(text) > limit else ""
    return printable(text[:limit], keep="\t\n") + cut


def with_commands(text: str) -> list[tuple[str, bool]]:
    """Return the parts of a text, each with whether it is a command, such as `cg turn get T-7` in backticks.

    Args:
        text: the text.
    """
    return [(part, bool(place % 2)) for place, part in enumerate(_COMMAND.split(text)) if part]


def shown_json(value: Any, limit: int = MAX_CHARACTERS) -> str:
    """Return a JSON value laid out, or a string as it is, of at most `limit` characters.

    Args:
        value: the JSON value.
        limit: how many characters to keep.
    """
    if isinstance(value, str):
        return shown(value, limit)
    return shown(laid_out(value), limit)


def laid_out(value: Any) -> str:
    """Return a JSON value as text, one entry a line, with its numbers as they were sent.

    Args:
        value: the JSON value.
    """
    try:
        return dumps(value, indented=True).decode()
    except TypeError:  # it is nested deeper than a kernel of ours takes
        return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def in_ascii(text: str) -> str:
    """Return a JSON text with each character beyond ASCII spelled out, so that no text can pose as another.

    Args:
        text: the JSON text.
    """
    return _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text)


def iso(instant: datetime) -> str:
    """Return an instant for the `datetime` attribute of HTML."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds")


def clock(instant: datetime) -> str:
    """Return an instant as a person reads it, in UTC."""
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float) -> str:
    """Return a length of time as a person reads it."""
    seconds = max(seconds, 0.0)
    for unit, size, below in (("ms", 0.001, 1.0), ("s", 1.0, 120.0), ("min", 60.0, 7200.0)):
        if seconds < below:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"


def ago(instant: datetime | None) -> str:
    """Return how long ago an instant was; empty for None."""
    return "" if instant is None else span((datetime.now(UTC) - instant).total_seconds())
