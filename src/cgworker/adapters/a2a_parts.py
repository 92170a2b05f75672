"""JSON values and the parts of A2A messages and artifacts, each made of the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from a2a.helpers import new_data_part, new_text_part
from a2a.types import Part, TaskStatus
from google.protobuf.json_format import MessageToDict

_LARGEST = 2**53  # A2A carries every number as a float, which has whole numbers up to here


class NumberLost(ValueError):
    """A number that A2A would change on its way; send it as a text."""


def parts_of(value: Any) -> list[Part]:
    """A text, also as `{"text": ...}`, becomes a text part; anything else a data part.

    Raises:
        NumberLost: an integer beyond 2**53, or a number that no float holds.
    """
    check_numbers(value)
    if isinstance(value, Mapping) and value.keys() == {"text"}:
        value = value["text"]
    return [new_text_part(value) if isinstance(value, str) else new_data_part(value)]


def value_of(parts: Iterable[Part]) -> Any:
    """Texts become `{"text": ...}`, a single data part its data, anything else `{"text", "parts"}`."""
    parts = list(parts)
    if len(parts) == 1 and parts[0].HasField("data"):
        return plain(parts[0].data)
    text = {"text": text_of(parts)}
    if all(part.HasField("text") for part in parts):
        return text
    return {**text, "parts": [plain(part) for part in parts if not part.HasField("text")]}


def text_of(parts: Iterable[Part]) -> str:
    """The text parts, one after the other."""
    return "".join(part.text for part in parts)


def said_in(status: TaskStatus) -> Any:
    """What an agent says with a status; None if it says nothing."""
    return value_of(status.message.parts) if status.message.parts else None


def plain(message: Any) -> Any:
    """The JSON of one of A2A's messages."""
    return _with_whole_numbers(MessageToDict(message))


def check_numbers(value: Any) -> None:
    """Look at each number of a JSON value.

    Raises:
        NumberLost: an integer beyond 2**53, or a number that no float holds.
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            check_numbers(each)
    elif (isinstance(value, int) and abs(value) > _LARGEST) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise NumberLost(
            f"A2A cannot carry the number {_spelled(value)}: integers go to 2**53, others to 1.8e308; "
            "send it as a text"
        )


def _spelled(number: float) -> str:
    """As it is told; Python refuses to spell an integer of thousands of digits."""
    if isinstance(number, float) or abs(number) < 10**40:
        return f"{number!r:.40}"
    return "of more than 40 digits"


def _with_whole_numbers(value: Any) -> Any:
    """A2A carries every number as a float; whole ones up to 2**53 were most likely integers."""
    if isinstance(value, dict):
        return {name: _with_whole_numbers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(each) for each in value]
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST
    return int(value) if is_whole else value
