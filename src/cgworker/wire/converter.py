"""Convert between JSON and wire types.

All other files rely on three rules that are implemented here:

- **Requests are strict, answers are tolerant.** A request with an unknown field is refused, with all its
  faults (wire 2.1); unknown keys of an answer are ignored.
- **Absent is not null.** A field that may be missing has the default `ABSENT`, and is not written then.
- **Numbers are kept as sent** (difference 1). Integers may have any size. A number that a Python float
  cannot represent exactly becomes an `ExactNumber` and is written back digit by digit.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn, TypeVar

import orjson
from cattrs import BaseValidationError

from cgworker.errors import AnswerInvalid, InvalidRequest
from cgworker.wire.faults import faults_of, require_count
from cgworker.wire.lazy import Lazy
from cgworker.wire.user_types import register_hooks
from cgworker.wire.user_values import field_names, is_own, refuse, spell_large, written
from cgworker.wire.values import ExactNumber, Fault, JsonText
from cgworker.wire.wire_types import wire_converter

T = TypeVar("T")


# orjson can lose digits only of numbers with 16 digits or an exponent. The match may be inside a string.
_MAY_LOSE_DIGITS = re.compile(rb"[0-9.]{16}|[0-9][eE]")


def loads(data: bytes | str) -> Any:
    """Parse JSON without losing digits of numbers.

    Args:
        data: UTF-8 text.

    Raises:
        json.JSONDecodeError: the data is not JSON; NaN, Infinity and lone surrogates are not. A ValueError.
        RecursionError: the data is nested deeper than Python can follow.
    """
    raw = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    try:
        value = orjson.loads(raw)
        if orjson.dumps(value) == raw:  # most programs write compact JSON; equal text means nothing was lost
            return value
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        pass  # the next parser says what is wrong, or reads it
    if _MAY_LOSE_DIGITS.search(raw) is None:
        return orjson.loads(raw)
    return _loads_exactly(raw)


def _loads_exactly(raw: bytes) -> Any:
    """Parse with Python's own parser, which is slow but reads numbers digit by digit."""
    text = _decode(raw)
    value = json.loads(text, parse_float=_exact_float, parse_int=_exact_int, parse_constant=_refuse_constant)
    if "\\u" in text:
        _refuse_lone_surrogates(value)
    return value


def dumps(value: Any, *, sort_keys: bool = False, indented: bool = False) -> bytes:
    """Write JSON from JSON values, wire types, datetimes (ISO 8601, +00:00) and exact numbers.

    Classes of a user are written as `unstructure_plain` writes them.

    Args:
        value: the value to write.
        sort_keys: write the keys of objects in order.
        indented: write one entry per line, indented by two blanks.

    Raises:
        TypeError: the value is not JSON, for instance a set, or a key that is not a string.
    """
    if not isinstance(value, dict) and is_own(type(value)):
        value = ANSWERS.unstructure(value)
    write = _write_ordered if sort_keys else _write
    # orjson's own way omits private fields of a dataclass, and writes attributes that are not fields.
    option = orjson.OPT_PASSTHROUGH_DATACLASS | (orjson.OPT_SORT_KEYS if sort_keys else 0)
    option |= orjson.OPT_INDENT_2 if indented else 0
    try:
        return orjson.dumps(value, default=write, option=option)
    except TypeError as refused:
        if isinstance(refused.__cause__, TypeError | ValueError):
            raise refused.__cause__ from None  # the error of `_write`, which names the part at fault
        try:
            spelled = spell_large(value)
        except RecursionError:
            raise refused from None
        return orjson.dumps(spelled, default=write, option=option)  # raises again if that was not the cause


def check_json(value: Any) -> None:
    """Check that a user's value is JSON.

    `dumps` alone is faster, but writes NaN and infinity as null; our own values contain neither.

    Args:
        value: the value to check.

    Raises:
        TypeError: a part of it is not JSON, for instance a set, or a key that is not a string.
        ValueError: a part of it is NaN or infinite, or it contains itself.
    """
    dumps(unstructure_plain(value))


def structure_request(cls: type[T], value: Any, *, at: str = "body") -> T:
    """Read a request.

    A class may limit the number of its `items` in `max_items`; a longer list is refused unread.

    Args:
        cls: the wire type.
        value: the JSON value of the request.
        at: the first element of each fault's path.

    Raises:
        InvalidRequest: the sender's fault: at most `faults.MAX_FAULTS` faults, and the number of the
            others.
    """
    if hasattr(cls, "max_items"):
        require_count(cls, value, at)
    try:
        return REQUESTS.structure(value, cls)
    except (BaseValidationError, Fault) as broken:
        raise InvalidRequest(faults_of(broken, at)) from None


def structure_answer(cls: type[T], value: Any) -> T:
    """Read the answer of a kernel; unknown keys are ignored.

    Args:
        cls: the wire type.
        value: the JSON value of the answer.

    Raises:
        AnswerInvalid: the kernel's fault: the answer does not have the form of `cls`.
    """
    try:
        return QUICK_ANSWERS.structure(value, cls)
    except Exception:  # it is read again, for the faults
        return _structure_with_faults(cls, value)


def _structure_with_faults(cls: type[T], value: Any) -> T:
    try:
        return ANSWERS.structure(value, cls)
    except (BaseValidationError, Fault) as broken:
        faults = InvalidRequest(faults_of(broken, "answer"))
        raise AnswerInvalid(f"the kernel's answer is not a {cls.__name__}: {faults}") from broken


def _structure_lazily(cls: type[T], value: Any) -> T:
    if not isinstance(value, bytes):
        return structure_answer(cls, value)
    try:
        found = loads(value)
    except (json.JSONDecodeError, RecursionError) as broken:
        raise AnswerInvalid(f"the kernel's answer has a line that is not JSON: {broken}") from broken
    return found if type(found) is cls else structure_answer(cls, found)


Lazy.read = staticmethod(_structure_lazily)


def structure_plain(cls: Any, value: Any) -> Any:
    """Read a user's own type from JSON: attrs classes, dataclasses, dicts, plain types.

    Args:
        cls: the type to read; `Any` returns the value as it is.
        value: the JSON value.

    Raises:
        InvalidRequest: the value does not fit; paths of its faults begin with "input".
    """
    try:
        return PLAIN.structure(value, cls)
    except (BaseValidationError, ValueError) as broken:
        raise InvalidRequest(faults_of(broken, "input")) from broken


def check_readable(cls: Any) -> None:
    """Check that `structure_plain` can read a type.

    Args:
        cls: the type.

    Raises:
        Exception: cattrs does not know how to read it.
    """
    PLAIN.get_structure_hook(cls)


def unstructure(value: Any) -> Any:
    """Convert a wire type to dicts and lists for `dumps`; absent fields are left out.

    Payloads in it are not converted: `unstructure_plain` is for a user's own values.

    Args:
        value: the object.
    """
    return ANSWERS.unstructure(value)


def unstructure_plain(value: Any) -> Any:
    """Convert a user's value to JSON values: attrs classes, dataclasses, enums and the like, at any depth.

    Args:
        value: the value.

    Raises:
        TypeError: a part of it is not JSON, for instance a set, or a key that is not a string.
        ValueError: a part of it is NaN or infinite, or it contains itself.
    """
    return written(value, unstructure)


# ---------------------------------------------------------------- exact numbers


# Python's limit for converting integers cannot be set below this many digits.
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


REQUESTS: Final = wire_converter(unstructure_plain, strict=True)
ANSWERS: Final = wire_converter(unstructure_plain, strict=False)
QUICK_ANSWERS: Final = wire_converter(unstructure_plain, strict=False, says_where=False)
Lazy.hook_of = staticmethod(QUICK_ANSWERS.get_structure_hook)
PLAIN: Final = register_hooks(wire_converter(unstructure_plain, strict=False))
