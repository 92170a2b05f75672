"""Convert between JSON values and the parts of A2A messages and artifacts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from a2a.helpers import new_data_part, new_text_part
from a2a.types import Part, TaskStatus
from google.protobuf.json_format import MessageToDict

from cgworker.wire.converter import dumps

_LARGEST = 2**53  # A2A sends every number as a float, which is exact for integers up to this one


class NumberLost(ValueError):
    """A2A would change a number; send it as a text."""


def parts_of(value: Any) -> list[Part]:
    """Convert a value to parts: a text or `{"text": ...}` becomes a text part, anything else a data part.

    Args:
        value: a JSON value.

    Raises:
        NumberLost: an integer is beyond 2**53, or a number is beyond a float.
    """
    check_numbers(value)
    if isinstance(value, Mapping) and value.keys() == {"text"}:
        value = value["text"]
    return [new_text_part(value) if isinstance(value, str) else new_data_part(value)]


def value_of(parts: Iterable[Part]) -> Any:
    """Convert parts to a value: `{"text": ...}` for texts, the data of a single data part, else both.

    Args:
        parts: the parts of a message or artifact.

    Returns:
        `{"text": ...}`, the data, or `{"text": ..., "parts": [...]}`.
    """
    parts = list(parts)
    if len(parts) == 1 and parts[0].HasField("data"):
        return message_json(parts[0].data)
    text = {"text": text_of(parts)}
    if all(part.HasField("text") for part in parts):
        return text
    return {**text, "parts": [message_json(part) for part in parts if not part.HasField("text")]}


def text_of(parts: Iterable[Part]) -> str:
    """Return the text parts, joined.

    Args:
        parts: the parts of a message or artifact.
    """
    return "".join(part.text for part in parts)


def status_message(status: TaskStatus) -> Any:
    """Return the message that comes with a status; None if there is none.

    Args:
        status: the status of a task.
    """
    return value_of(status.message.parts) if status.message.parts else None


def message_json(message: Any) -> Any:
    """Return the JSON value of one of A2A's protobuf messages.

    Args:
        message: the protobuf message.
    """
    return _with_whole_numbers(MessageToDict(message))


def check_numbers(value: Any) -> None:
    """Check that A2A would not change a number of a JSON value.

    Args:
        value: the JSON value.

    Raises:
        NumberLost: an integer is beyond 2**53, or a number is beyond a float.
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
    """Return a number for a message: Python refuses to print an integer of thousands of digits."""
    if isinstance(number, float) or abs(number) < 10**40:
        return f"{number!r:.40}"
    return "of more than 40 digits"


def _with_whole_numbers(value: Any) -> Any:
    """Turn floats that are whole numbers up to 2**53 into integers, which they most likely were."""
    if isinstance(value, dict):
        return {name: _with_whole_numbers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(each) for each in value]
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST
    return int(value) if is_whole else value


def status_digest(status: TaskStatus | Mapping[str, Any]) -> str:
    """Return a digest of a status, in which the order of keys does not count.

    Args:
        status: the status, or its JSON object.
    """
    value = status if isinstance(status, Mapping) else message_json(status)
    return sha256(dumps(value, sort_keys=True)).hexdigest()
