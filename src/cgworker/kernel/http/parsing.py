"""Parse request bodies: small ones at once, large ones in a side process (offload.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import attrs
from attrs import evolve

from cgworker.errors import InvalidRequest
from cgworker.kernel.offload import offload
from cgworker.kernel.store.ids import json_text
from cgworker.wire.converter import loads, structure_request
from cgworker.wire.user_types import is_mapping

T = TypeVar("T")

MAX_INLINE_VALUES = 4096
"""How many values are parsed in the event loop: that takes some milliseconds at most."""

MAX_INSPECTED_VALUES = 50_000
"""How many values an object may hold that the kernel itself inspects, such as public metadata."""

_SMALL = 4096
_LONG = 2**20
_LONG_TEXT = 2**16
_AS_BRACES = bytes.maketrans(b"[]", b"{}")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


async def parse(cls: type[T], chunks: Sequence[bytes], size_bytes: int, *, max_depth: int) -> T:
    """Parse a body as a wire type.

    Large values that are only stored, such as payloads, become a `JsonText`.

    Args:
        cls: the wire type.
        chunks: the body in pieces.
        size_bytes: the size of the body.
        max_depth: the deepest nesting of JSON.

    Raises:
        InvalidRequest: 422, with all faults of the body.
        KernelOverloaded: 503, the body could not be parsed in time.
    """
    if size_bytes <= _LONG:
        raw = b"".join(chunks)
        if size_bytes <= _SMALL or is_quick(raw):
            return structure_request(cls, parse_json(raw, max_depth))
        chunks = (raw,)
    return await offload(parse_large, cls, chunks, max_depth, size_bytes=size_bytes)


def is_quick(raw: bytes) -> bool:
    """Whether parsing a body takes some milliseconds at most."""
    # One pass over the text; `count` takes one for each of these, which was a twentieth of a turn of 32 KB.
    return len(raw) - len(raw.translate(None, b",[{")) <= MAX_INLINE_VALUES


def parse_large(cls: type[T], chunks: Sequence[bytes], max_depth: int) -> T:
    """Parse a body as `parse` does, but in the calling process.

    Raises:
        InvalidRequest: 422, with all faults of the body.
    """
    request = structure_request(cls, parse_json(b"".join(chunks), max_depth))
    smaller: T = _with_texts(request, ("body",))
    return smaller


def _with_texts(value: Any, loc: tuple[str | int, ...]) -> Any:
    """Replace the large values of a request by JSON text, unless the kernel inspects them."""
    if isinstance(value, tuple):
        return tuple(_with_texts(item, (*loc, place)) for place, item in enumerate(value))
    if not attrs.has(type(value)):
        return value
    changes = {}
    for field in attrs.fields(attrs.resolve_types(type(value))):
        was = getattr(value, field.name)
        if field.type is Any:
            changes[field.name] = _with_text_inside(was)
        elif is_mapping(field.type):
            _check_count(was, (*loc, field.name))
        elif isinstance(was, tuple) or attrs.has(type(was)):
            changes[field.name] = _with_texts(was, (*loc, field.name))
    return evolve(value, **{name: now for name, now in changes.items() if now is not getattr(value, name)})


def _with_text_inside(value: Any) -> Any:
    """Return large values as text; keep an object of few keys, since the kernel inspects some of them."""
    if isinstance(value, dict) and len(value) <= MAX_INLINE_VALUES:
        return {key: _text_if_large(item) for key, item in value.items()}
    return _text_if_large(value)


def _text_if_large(value: Any) -> Any:
    if isinstance(value, str):
        return json_text(value) if len(value) > _LONG_TEXT else value
    return json_text(value) if isinstance(value, dict | list) and value else value


def _check_count(value: Any, loc: tuple[str | int, ...]) -> None:
    count, level = 0, [value]
    while level and count <= MAX_INSPECTED_VALUES:
        count += len(level)
        level = _values_in(level)
    if count > MAX_INSPECTED_VALUES:
        msg = f"Value error, may hold at most {MAX_INSPECTED_VALUES} values"
        raise InvalidRequest([fault("too_long", list(loc), msg)])


# ---------------------------------------------------------------- JSON


def parse_json(raw: bytes, max_depth: int) -> Any:
    """Parse a body as JSON.

    Raises:
        InvalidRequest: 422, the body is not JSON or nested too deeply.
    """
    may_be_deeper = _may_be_deeper(raw, max_depth)
    try:
        value = loads(raw)
    except RecursionError:
        raise InvalidRequest([_too_deep(max_depth)]) from None
    except ValueError as broken:
        at = getattr(broken, "pos", 0)
        raise InvalidRequest([fault("json_invalid", ["body", at], f"JSON decode error: {broken}")]) from None
    if may_be_deeper and _depth(value) > max_depth:
        raise InvalidRequest([_too_deep(max_depth)])
    return value


def _may_be_deeper(raw: bytes, depth: int) -> bool:
    """Whether a text may be nested deeper; brackets in its strings may be counted, too.

    Each step takes away the innermost lists and objects. That is much quicker than to look through the
    values: for those of a request about eighty turns it took a twentieth of the kernel's time.
    """
    if not _has_brackets(raw, depth + 1):  # as in most requests
        return False
    brackets = raw.translate(_AS_BRACES, _NO_BRACKETS)
    for _ in range(depth):
        outer = brackets.replace(b"{}", b"")
        if len(outer) == len(brackets):
            break
        brackets = outer
    return bool(brackets)


def _has_brackets(raw: bytes, count: int) -> bool:
    """Whether so many lists and objects begin here.

    `find` leaps from one to the next, while `count` looks at each byte: at 32 KB of text that takes as long
    as all else of parsing.
    """
    for bracket in (b"[", b"{"):
        at = raw.find(bracket)
        while at >= 0:
            count -= 1
            if count <= 0:
                return True
            at = raw.find(bracket, at + 1)
    return False


def _depth(value: Any) -> int:
    """Return how deep the value is nested; counts by level, so that no depth overflows the stack."""
    depth, level = 0, [value]
    while any(isinstance(item, dict | list) for item in level):
        depth += 1
        level = _values_in(level)
    return depth


def _values_in(level: list[Any]) -> list[Any]:
    containers = [item for item in level if isinstance(item, dict | list)]
    return [inner for item in containers for inner in (item.values() if isinstance(item, dict) else item)]


def _too_deep(most: int) -> dict[str, Any]:
    return fault("recursion_loop", ["body"], f"JSON is nested deeper than {most} levels")


def fault(type: str, loc: list[str | int], msg: str) -> dict[str, Any]:
    """Return a fault in the form of a 422."""
    return {"type": type, "loc": loc, "msg": msg}
