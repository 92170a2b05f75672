"""Write a user's own values as JSON, by their own type and at any depth.

A dataclass or an attrs class becomes an object of all its fields and nothing else, whether it is the whole
value, an item of a list or deep in a dict, and whatever type its field was declared with.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NoReturn

import attrs
import orjson

from cgworker.wire.values import ExactNumber

Write = Callable[[Any], Any]


def written(value: Any, write_own: Write) -> Any:
    """Convert a value to dicts, lists, strings, numbers, booleans and None.

    Args:
        value: the value.
        write_own: writes the classes of this package, some of which have a form of their own.

    Raises:
        TypeError: a part of it is not JSON, for instance a set, or a key that is not a string.
        ValueError: a part of it is NaN or infinite, or it contains itself.
    """
    try:
        return _written(value, write_own)
    except RecursionError:
        raise ValueError("the value is nested too deeply, or contains itself") from None


def _written(value: Any, write_own: Write) -> Any:
    """Return a value as JSON values; nearly all are JSON already."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is not dict:
        return _written_otherwise(value, write_own)
    return {
        key if type(key) is str else _key_of(key): _written(item, write_own) for key, item in value.items()
    }


def _written_otherwise(value: Any, write_own: Write) -> Any:
    if isinstance(value, ExactNumber):
        return value
    if isinstance(value, Enum):
        return _written(value.value, write_own)
    if isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, dict | Mapping):  # the quicker question first
        return {_key_of(key): _written(item, write_own) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_written(item, write_own) for item in value]
    if is_own(type(value)):
        return _written(write_own(value), write_own)
    if (names := field_names(type(value))) is not None:
        return {name: _written(getattr(value, name), write_own) for name in names}
    try:
        return orjson.loads(orjson.dumps(value))  # datetimes, dates, times and UUIDs become text
    except TypeError:
        refuse(value)


def spell_large(value: Any) -> Any:
    """Return the same JSON with every integer of more than 64 bits as an exact number.

    Args:
        value: JSON values.
    """
    if isinstance(value, dict):
        return {key: spell_large(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [spell_large(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 63:
        return ExactNumber(str(value))
    return value


def field_names(cls: type) -> tuple[str, ...] | None:
    """Return the names of the fields of an attrs class or a dataclass; None for any other class.

    Args:
        cls: the class.
    """
    if attrs.has(cls):
        return tuple(field.name for field in attrs.fields(cls))
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    return None


def is_own(cls: type) -> bool:
    """Return True for a class of this package that has fields.

    Args:
        cls: the class.
    """
    return str(cls.__module__).startswith("cgworker.") and attrs.has(cls)  # the quicker question first


def refuse(value: Any) -> NoReturn:
    """Raise TypeError: the value is not JSON.

    Args:
        value: the value.

    Raises:
        TypeError: always.
    """
    raise TypeError(f"{type(value).__name__} is not JSON")


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError("NaN and infinity are not JSON")
    return float(number)


def _key_of(key: Any) -> str:
    name = key.value if isinstance(key, Enum) else key
    if not isinstance(name, str):
        raise TypeError(f"{key!r} is a key, and the keys of a JSON object are strings")
    return name
