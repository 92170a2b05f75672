"""Read single values: strings, numbers, booleans and instants.

Requests are read laxly where the reference is lax, answers strictly (wire 2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

Read = Callable[[Any, Any], Any]
"""Reads a JSON value; the second argument is the type, which cattrs passes."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ExactNumber(float):
    """A JSON number that a float cannot hold or spells differently; it behaves as the nearest float."""

    text: str

    def __new__(cls, text: str) -> ExactNumber:
        """Make a number of its JSON text.

        Args:
            text: the number as it was sent.
        """
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __repr__(self) -> str:
        return self.text

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]  # a float's own gives a float
        return (self.text,)


class JsonText:
    """A JSON value that is written as it is: as it was sent, or with sorted keys for comparing.

    The kernel uses it for large values that it stores and never reads.
    """

    __slots__ = ("ordered", "text")

    def __init__(self, text: bytes, ordered: bytes) -> None:
        self.text: bytes = text
        self.ordered: bytes = ordered


class Fault(ValueError):
    """A fault of one value; `type` is the machine-readable word of wire 2.1."""

    def __init__(self, type: str, msg: str) -> None:
        super().__init__(msg)
        self.type = type
        self.msg = msg


def read_str(value: Any, _: Any) -> str:
    """Read a string. It must not contain NUL, which PostgreSQL cannot store; nothing is converted.

    Args:
        value: the JSON value.
        _: the type, which cattrs passes.

    Raises:
        Fault: the value is not such a string.
    """
    if not isinstance(value, str):
        raise Fault("string_type", "Input should be a valid string")
    if "\0" in value:
        raise Fault("value_error", "{field} must not contain a NUL character")
    return value


class ItemFaults(Fault):
    """The faults of a list's items, by index, and the number of items that were not read after them."""

    def __init__(self, by_place: Sequence[tuple[int, Exception]], unseen_count: int) -> None:
        super().__init__("value_error", "some items are not valid")
        self.by_place = by_place
        self.unseen_count = unseen_count


_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})


def read_lax_bool(value: Any, _: Any = bool) -> bool:
    """Read a bool as the reference does: also 0 and 1, and words such as "yes" and "off".

    Args:
        value: the JSON value.
        _: the type, which cattrs passes.

    Raises:
        Fault: the value stands for no bool.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    raise Fault("bool_parsing", "Input should be a valid boolean, unable to interpret input")


_INTEGER_TEXT = re.compile(r"\s*[+-]?[0-9]+(\.0*)?\s*\Z", re.ASCII)


def read_lax_int(value: Any, _: Any = int) -> int:
    """Read an integer as the reference does, also 2.0 and "2"; it must fit into PostgreSQL's bigint.

    Args:
        value: the JSON value.
        _: the type, which cattrs passes.

    Raises:
        Fault: the value stands for no integer, or for one that is too large.
    """
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
    """Read a bool; no other value is converted.

    Args:
        value: the JSON value.
        _: the type, which cattrs passes.

    Raises:
        Fault: the value is not a bool.
    """
    if not isinstance(value, bool):
        raise Fault("bool_type", "Input should be a valid boolean")
    return value


def read_strict_int(value: Any, _: Any) -> int:
    """Read an integer; no other value is converted.

    Args:
        value: the JSON value.
        _: the type, which cattrs passes.

    Raises:
        Fault: the value is not an integer.
    """
    if type(value) is not int:  # no bool
        raise Fault("int_type", "Input should be a valid integer")
    return value


def read_float(value: Any, _: Any) -> float:
    """Read a number as a float.

    Args:
        value: the JSON value.
        _: the type, which cattrs passes.

    Raises:
        Fault: the value is not a number.
    """
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Fault("float_type", "Input should be a valid number")
    return float(value)


MAX_DELAY_SECONDS = 10**9
"""The longest delay that a request can ask for: some thirty years."""


def read_delay(value: Any, _: Any = float) -> float:
    """Read a number of seconds to wait, from 0 to `MAX_DELAY_SECONDS`.

    Args:
        value: the JSON value.
        _: the type, which cattrs passes.

    Raises:
        Fault: the value is not such a number.
    """
    seconds = read_float(value, float)
    if not 0 <= seconds <= MAX_DELAY_SECONDS:
        raise Fault("value_error", f"Input should be a number of seconds from 0 to {MAX_DELAY_SECONDS}")
    return seconds


_MICROSECOND = timedelta(microseconds=1)
_FIRST = datetime.min.replace(tzinfo=UTC) + _MICROSECOND
_LAST = datetime.max.replace(tzinfo=UTC) - _MICROSECOND


def _finite(instant: datetime) -> datetime:
    """Return the instant, or the one beside it: asyncpg takes Python's first and last for infinity."""
    return min(max(instant, _FIRST), _LAST)


def read_datetime(value: Any, _: Any) -> datetime:
    """Read an instant as `datetime.fromisoformat` does; without an offset it is UTC.

    Args:
        value: the JSON value.
        _: the type, which cattrs passes.

    Raises:
        Fault: the value is not an instant.
    """
    if not isinstance(value, str):
        raise Fault("datetime_type", "Input should be a valid datetime")
    try:
        instant = datetime.fromisoformat(value)
        instant = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
        return instant if 1 < instant.year < 9999 else _finite(instant)
    except (ValueError, OverflowError):
        raise Fault("datetime_parsing", "Input should be a valid datetime in ISO 8601 form") from None


_NUMBER_TEXT = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?\Z", re.ASCII)
_SECONDS_UP_TO = 2e10


def read_moment(value: Any, _: Any = datetime) -> datetime:
    """Read an instant other than a claim's, as the reference does: also a number, or a number as text.

    A number means seconds since 1970; one too large for that means milliseconds.

    Args:
        value: the JSON value.
        _: the type, which cattrs passes.

    Raises:
        Fault: the value is not an instant.
    """
    if isinstance(value, str) and not _NUMBER_TEXT.match(value):
        return read_datetime(value.upper(), datetime)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Fault("datetime_type", "Input should be a valid datetime")
    try:
        number = float(value)
        seconds = number if abs(number) <= _SECONDS_UP_TO else number / 1000
        return _finite(_EPOCH + timedelta(seconds=seconds))
    except (ValueError, OverflowError):
        raise Fault("datetime_parsing", "Input should be a valid datetime, it is out of range") from None


def object_reader(read_fields: Read, cls: type) -> Read:
    """Return a reader of objects: what is none is refused before its fields are read.

    Args:
        read_fields: reads the fields of an object.
        cls: the class of the object.
    """

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise Fault(
                "model_attributes_type",
                "Input should be a valid dictionary or object to extract fields from",
            )
        return read_fields(value, cls)

    return read


def or_null(read: Read, kind: Any) -> Read:
    """Return a reader of a value or null; cattrs would look up the type's reader for each value.

    Args:
        read: reads a value.
        kind: the type of the value.
    """
    return lambda value, _: None if value is None else read(value, kind)


def read_mapping(value: Any, _: Any) -> Mapping[str, Any]:
    """Read an object; its keys are strings, since it was JSON.

    Args:
        value: the JSON value.
        _: the type, which cattrs passes.

    Raises:
        Fault: the value is not an object.
    """
    if not isinstance(value, dict):
        raise Fault("dict_type", "Input should be a valid dictionary")
    return value
