"""What a single value may look like: the readers of strings, numbers, flags and instants, and what is wrong
with those that cannot be read.

Requests are read laxly where the reference is lax, answers strictly (wire 2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ExactNumber(float):
    """A JSON number that a float cannot hold, or not in this spelling; behaves as the nearest float."""

    text: str

    def __new__(cls, text: str) -> ExactNumber:
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __repr__(self) -> str:
        return self.text

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]  # a float's own gives a float
        return (self.text,)


class JsonText:
    """A JSON value that is written as it is: as it was sent, and with sorted keys, to be compared.

    It stands for a large value that a kernel stores and never looks into.
    """

    __slots__ = ("ordered", "text")

    def __init__(self, text: bytes, ordered: bytes) -> None:
        self.text: bytes = text
        self.ordered: bytes = ordered


class Fault(ValueError):
    """One thing wrong with one value; `type` is the machine-readable word of wire 2.1."""

    def __init__(self, type: str, msg: str) -> None:
        super().__init__(msg)
        self.type = type
        self.msg = msg


def read_str(value: Any, _: Any) -> str:
    """A string without NUL, which PostgreSQL cannot keep; nothing is turned into one."""
    if not isinstance(value, str):
        raise Fault("string_type", "Input should be a valid string")
    if "\0" in value:
        raise Fault("value_error", "{field} must not contain a NUL character")
    return value


class ItemFaults(Fault):
    """What is wrong with the items of a list, by place, and how many items were not looked at after that."""

    def __init__(self, by_place: Sequence[tuple[int, Exception]], unseen_count: int) -> None:
        super().__init__("value_error", "some items are not valid")
        self.by_place = by_place
        self.unseen_count = unseen_count


_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})


def read_lax_bool(value: Any, _: Any = bool) -> bool:
    """A bool as the reference reads one: also 0 and 1, and words such as "yes" and "off"."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    raise Fault("bool_parsing", "Input should be a valid boolean, unable to interpret input")


_INTEGER_TEXT = re.compile(r"\s*[+-]?[0-9]+(\.0*)?\s*\Z", re.ASCII)


def read_lax_int(value: Any, _: Any = int) -> int:
    """An integer as the reference reads one: also 2.0 and "2"; kept within PostgreSQL's bigint."""
    number = _to_int(value)
    if not -(2**63) <= number < 2**63:
        raise Fault("int_parsing_size", "Unable to parse input string as an integer, exceeded maximum size")
    return number


def _to_int(value: Any) -> int:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not value.is_integer():
            msg = "Input should be a valid integer, got a number with a fractional part"
            raise Fault("int_from_float", msg)
        return int(value)
    if isinstance(value, str) and len(value) < 64 and _INTEGER_TEXT.match(value):
        return int(value.split(".")[0])
    raise Fault("int_parsing", "Input should be a valid integer, unable to parse string as an integer")


def read_strict_bool(value: Any, _: Any) -> bool:
    """A bool, and nothing that might stand for one."""
    if not isinstance(value, bool):
        raise Fault("bool_type", "Input should be a valid boolean")
    return value


def read_strict_int(value: Any, _: Any) -> int:
    """An integer, and nothing that might stand for one."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Fault("int_type", "Input should be a valid integer")
    return value


def read_float(value: Any, _: Any) -> float:
    """A number, as a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Fault("float_type", "Input should be a valid number")
    return float(value)


def read_datetime(value: Any, _: Any) -> datetime:
    """An instant as `datetime.fromisoformat` reads it; without an offset it is taken as UTC."""
    if not isinstance(value, str):
        raise Fault("datetime_type", "Input should be a valid datetime")
    try:
        instant = datetime.fromisoformat(value)
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Fault("datetime_parsing", "Input should be a valid datetime in ISO 8601 form") from None


_NUMBER_TEXT = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?\Z", re.ASCII)
_SECONDS_UP_TO = 2e10


def read_moment(value: Any, _: Any = datetime) -> datetime:
    """An instant as the reference reads one that is not a claim's: also seconds since 1970, or milliseconds
    where seconds would be too many; also as text."""
    if isinstance(value, str) and not _NUMBER_TEXT.match(value):
        return read_datetime(value.upper(), datetime)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Fault("datetime_type", "Input should be a valid datetime")
    try:
        number = float(value)
        seconds = number if abs(number) <= _SECONDS_UP_TO else number / 1000
        return _EPOCH + timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        raise Fault("datetime_parsing", "Input should be a valid datetime, it is out of range") from None


def read_mapping(value: Any, _: Any) -> Mapping[str, Any]:
    """An object; its keys are strings, since it was JSON."""
    if not isinstance(value, dict):
        raise Fault("dict_type", "Input should be a valid dictionary")
    return value
