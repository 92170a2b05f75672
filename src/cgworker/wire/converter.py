"""JSON and wire types, in one place.

Three rules, kept here so that no other file has to:

- **Requests are strict, answers are tolerant.** A request with an unknown field is refused with every
  fault it has (wire 2.1); an answer may carry keys we do not know.
- **Absent is not null.** A field that may be left out has the default `ABSENT` and is left out again.
- **Numbers are kept as sent** (difference 1): integers of any size are integers; a number that a Python float
  would change travels as an `ExactNumber` and is written back digit by digit.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from enum import Enum
from functools import reduce
from operator import or_
from typing import Any, Final, NoReturn, TypeVar, Union, get_args, get_origin

import attrs
import orjson
from cattrs import BaseValidationError, Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from cgworker.errors import AnswerInvalid, InvalidRequest
from cgworker.wire.faults import MOST as MOST_FAULTS
from cgworker.wire.faults import faults_of, require_count
from cgworker.wire.user_types import has_fields, is_mapping, register_hooks
from cgworker.wire.user_values import field_names, is_own, refuse, spell_large, written
from cgworker.wire.values import (
    ExactNumber,
    Fault,
    ItemFaults,
    JsonText,
    read_datetime,
    read_float,
    read_lax_bool,
    read_lax_int,
    read_mapping,
    read_str,
    read_strict_bool,
    read_strict_int,
)

T = TypeVar("T")


class Absent(Enum):
    """The type of `ABSENT`, the default of a field that was not sent."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return "ABSENT"

    def __bool__(self) -> bool:
        return False


ABSENT: Final = Absent.ABSENT


# Sixteen digits or an exponent somewhere, be it in an identifier: only then can orjson lose digits.
_MAY_LOSE_DIGITS = re.compile(rb"[0-9.]{16}|[0-9][eE]")


def loads(data: bytes | str) -> Any:
    """Parse JSON, exactly.

    Raises:
        json.JSONDecodeError: not JSON; NaN, Infinity and lone surrogates included. A subclass of ValueError.
        RecursionError: nested deeper than Python can follow.
    """
    raw = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    with suppress(orjson.JSONDecodeError, orjson.JSONEncodeError):
        value = orjson.loads(raw)
        if orjson.dumps(value) == raw:  # compact, as most programs write it: then nothing was lost
            return value
    if _MAY_LOSE_DIGITS.search(raw) is None:
        return orjson.loads(raw)
    return _loads_exactly(raw)


def _loads_exactly(raw: bytes) -> Any:
    """With Python's own parser, which is slow but lets numbers be read digit by digit."""
    text = _decode(raw)
    value = json.loads(text, parse_float=_exact_float, parse_int=_exact_int, parse_constant=_refuse_constant)
    if "\\u" in text:
        _refuse_lone_surrogates(value)
    return value


def dumps(value: Any, *, sort_keys: bool = False, indented: bool = False) -> bytes:
    """Write JSON; wire types, datetimes (ISO 8601, +00:00) and exact numbers included.

    Classes of a user's own are written as `unstructure_plain` writes them.

    Raises:
        TypeError: the value is not JSON, for instance a set, or a key that is not a string.
    """
    if is_own(type(value)):
        value = unstructure(value)
    write = _write_ordered if sort_keys else _write
    # By itself orjson leaves out a dataclass's private fields, and writes attributes that are no fields.
    option = orjson.OPT_PASSTHROUGH_DATACLASS | (orjson.OPT_SORT_KEYS if sort_keys else 0)
    option |= orjson.OPT_INDENT_2 if indented else 0
    try:
        return orjson.dumps(value, default=write, option=option)
    except TypeError as refused:
        if isinstance(refused.__cause__, TypeError | ValueError):
            raise refused.__cause__ from None  # what `_write` said: it names the part
        if "64-bit" not in str(refused):
            raise
        return orjson.dumps(spell_large(value), default=write, option=option)


def check_json(value: Any) -> None:
    """Raise if a value of a user's own is not JSON.

    `dumps` is quicker and writes NaN and infinity as null; what it is given by ourselves has neither.

    Raises:
        TypeError: for instance a set, or a key that is not a string.
        ValueError: NaN or infinity, or the value contains itself.
    """
    dumps(unstructure_plain(value))


def structure_request(cls: type[T], value: Any, *, at: str = "body") -> T:
    """Read a request; `at` is the first element of each fault's path.

    Raises:
        InvalidRequest: with the faults found, at most `faults.MOST` of them, and how many more there are. A
            class may say how many `items` it takes, in `most_items`; a longer list is not looked at.
    """
    require_count(cls, value, at)
    try:
        return REQUESTS.structure(value, cls)
    except (BaseValidationError, Fault) as broken:
        raise InvalidRequest(faults_of(broken, at)) from None


def structure_answer(cls: type[T], value: Any) -> T:
    """Read what a kernel answered; unknown keys are passed over.

    Raises:
        AnswerInvalid: it does not have the form of `cls`.
    """
    try:
        return ANSWERS.structure(value, cls)
    except (BaseValidationError, Fault) as broken:
        faults = InvalidRequest(faults_of(broken, "answer"))
        raise AnswerInvalid(f"the kernel's answer is not a {cls.__name__}: {faults}") from broken


def structure_plain(cls: Any, value: Any) -> Any:
    """Read a user's own type from JSON: attrs classes, dataclasses, dicts, plain types; `Any` is left as is.

    Raises:
        InvalidRequest: with every fault found, from "input" on.
    """
    try:
        return PLAIN.structure(value, cls)
    except (BaseValidationError, ValueError) as broken:
        raise InvalidRequest(faults_of(broken, "input")) from broken


def check_readable(cls: Any) -> None:
    """Raise now what reading `cls` from JSON would raise for want of knowing how."""
    PLAIN.get_structure_hook(cls)


def unstructure(value: Any) -> Any:
    """What a wire type is as dicts and lists, ready for `dumps`; absent fields are left out.

    A payload in it is left as it is: `unstructure_plain` is for a user's own values.
    """
    return ANSWERS.unstructure(value)


def unstructure_plain(value: Any) -> Any:
    """The JSON of a user's own value: of attrs classes, dataclasses, enums and the like wherever they stand.

    Raises:
        TypeError: a part of it is not JSON, for instance a set, or a key that is not a string.
        ValueError: a part of it is NaN or infinite, or it contains itself.
    """
    return written(value, unstructure)


# ---------------------------------------------------------------- exact numbers


# Python converts integers of up to this many digits whatever limit it has been given.
_LONGEST_INT = 640


def _exact_int(text: str) -> int | ExactNumber:
    return int(text) if len(text) <= _LONGEST_INT else ExactNumber(text)


def _exact_float(text: str) -> float:
    number = float(text)
    return number if repr(number) == text else ExactNumber(text)


def _decode(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as broken:
        raise json.JSONDecodeError(str(broken), "", broken.start) from broken


def _refuse_lone_surrogates(value: Any) -> None:
    try:
        dumps(value)
    except TypeError as refused:
        raise json.JSONDecodeError(str(refused), "", 0) from refused


def _refuse_constant(text: str) -> NoReturn:
    raise json.JSONDecodeError(f"{text} is not JSON", text, 0)


def _write(value: Any) -> Any:
    if isinstance(value, ExactNumber):
        return orjson.Fragment(value.text.encode())
    if isinstance(value, JsonText):
        return orjson.Fragment(value.text)
    if is_own(type(value)):
        return unstructure(value)
    if isinstance(value, tuple | float) or field_names(type(value)) is not None:
        return spell_large(unstructure_plain(value))
    return refuse(value)


def _write_ordered(value: Any) -> Any:
    return orjson.Fragment(value.ordered) if isinstance(value, JsonText) else _write(value)


# ---------------------------------------------------------------- how types are read and written


def _reads_tuple(converter: Converter) -> Callable[[Any], Callable[[Any, Any], tuple[Any, ...]]]:
    def factory(cls: Any) -> Callable[[Any, Any], tuple[Any, ...]]:
        kind = get_args(cls)[0]
        read_item = converter.get_structure_hook(kind)

        def read(value: Any, _: Any) -> tuple[Any, ...]:
            if not isinstance(value, list):
                raise Fault("list_type", "Input should be a valid list")
            return _read_items(value, read_item, kind)

        return read

    return factory


def _read_items(items: list[Any], read: Callable[[Any, Any], Any], kind: Any) -> tuple[Any, ...]:
    """All items; after so many faults the rest is not looked at, since each costs an exception."""
    good, bad = [], []
    for place, item in enumerate(items):
        try:
            good.append(read(item, kind))
        except Exception as fault:
            bad.append((place, fault))
            if len(bad) == MOST_FAULTS:
                raise ItemFaults(bad, len(items) - place - 1) from None
    if bad:
        raise ItemFaults(bad, 0)
    return tuple(good)


def _is_tuple(cls: Any) -> bool:
    return get_origin(cls) is tuple


def _is_maybe_absent(cls: Any) -> bool:
    return get_origin(cls) in (Union, types.UnionType) and Absent in get_args(cls)


def _reads_present(converter: Converter) -> Callable[[Any], Callable[[Any, Any], Any]]:
    """A field that may be absent: when it is there, it is read as what else its type names."""

    def factory(cls: Any) -> Callable[[Any, Any], Any]:
        present: Any = reduce(or_, (kind for kind in get_args(cls) if kind is not Absent))
        read = converter.get_structure_hook(present)
        return lambda value, _: read(value, present)

    return factory


def _reads_object(converter: Converter, *, strict: bool) -> Callable[[Any], Callable[[Any, Any], Any]]:
    def factory(cls: Any) -> Callable[[Any, Any], Any]:
        read_fields = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=strict)

        def read(value: Any, _: Any) -> Any:
            if not isinstance(value, dict):
                raise Fault(
                    "model_attributes_type",
                    "Input should be a valid dictionary or object to extract fields from",
                )
            return read_fields(value, cls)

        return read

    return factory


def _writes_object(converter: Converter) -> Callable[[Any], Callable[[Any], dict[str, Any]]]:
    def factory(cls: Any) -> Callable[[Any], dict[str, Any]]:
        may_be_absent = [field.name for field in attrs.fields(cls) if field.default is ABSENT]
        left_out = {name: override(omit_if_default=True) for name in may_be_absent}
        return make_dict_unstructure_fn(cls, converter, **left_out)  # type: ignore[arg-type]  # by field name

    return factory


def _converter(*, strict: bool) -> Converter:
    converter = Converter(forbid_extra_keys=strict, detailed_validation=True)
    converter.register_structure_hook(str, read_str)
    converter.register_structure_hook(bool, read_lax_bool if strict else read_strict_bool)
    converter.register_structure_hook(int, read_lax_int if strict else read_strict_int)
    converter.register_structure_hook(float, read_float)
    converter.register_structure_hook(datetime, read_datetime)
    converter.register_unstructure_hook(datetime, lambda instant: instant)  # orjson writes it
    converter.register_unstructure_hook(ExactNumber, lambda number: number)
    converter.register_structure_hook_factory(has_fields, _reads_object(converter, strict=strict))
    converter.register_unstructure_hook_func(has_fields, unstructure_plain)
    converter.register_unstructure_hook_factory(is_own, _writes_object(converter))
    converter.register_structure_hook_factory(_is_tuple, _reads_tuple(converter))
    converter.register_structure_hook_func(is_mapping, read_mapping)
    converter.register_unstructure_hook_func(is_mapping, lambda stored: stored)  # JSON already, maybe raw
    converter.register_structure_hook_factory(_is_maybe_absent, _reads_present(converter))
    return converter


REQUESTS: Final = _converter(strict=True)
ANSWERS: Final = _converter(strict=False)
PLAIN: Final = register_hooks(_converter(strict=False))
