"""Encode and decode arrays: of text, bytea, json and numbers, the columns of nearly all statements.

asyncpg takes every element for an array in an array until `collections.abc` says that it is none. For the
columns of eighty turns that takes as long as all else that a statement costs the kernel. JSON is bytes here,
as it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Element = TypeVar("Element")

_to_int: Callable[[bytes], int] = partial(int.from_bytes, byteorder="big", signed=True)
_TYPES: tuple[tuple[str, int, int, Callable[[Any], bytes], Callable[[bytes], Any]], ...] = (
    # The name of the array's type, its oid and that of its elements, which are the same in each server.
    ("_text", 1009, 25, str.encode, bytes.decode),
    ("_bytea", 1001, 17, bytes, bytes),
    ("_json", 199, 114, bytes, bytes),
    ("_int2", 1005, 21, Struct(">h").pack, _to_int),
    ("_int4", 1007, 23, Struct(">i").pack, _to_int),
    ("_int8", 1016, 20, Struct(">q").pack, _to_int),
    ("_float8", 1022, 701, Struct(">d").pack, lambda data: Struct(">d").unpack(data)[0]),
)
_EMPTY = Struct(">iii")  # no dimensions, no nulls, the oid of the elements
_HEAD = Struct(">iiiii")  # one dimension, whether there are nulls, the oid, the length, the first index
_LENGTH = Struct(">i")
_NULL = _LENGTH.pack(-1)


def set_array_codecs(connection: Connection[Record]) -> None:
    """Let a connection encode and decode the arrays of `_TYPES` by these functions.

    `Connection.set_type_codec` would do the same, but refuses arrays.
    """
    settings = connection._protocol.get_settings()  # type: ignore[attr-defined]  # noqa: SLF001  # asyncpg's own
    for name, oid, element_oid, to_bytes, from_bytes in _TYPES:
        codec = _encoder(element_oid, to_bytes), _decoder(from_bytes)
        settings.add_python_codec(oid, name, "pg_catalog", [], "scalar", *codec, "binary")


def _encoder(oid: int, to_bytes: Callable[[Element], bytes]) -> Callable[[Collection[Element | None]], bytes]:
    def encode(elements: Collection[Element | None]) -> bytes:
        if not elements:
            return _EMPTY.pack(0, 0, oid)
        parts, has_nulls = [b""], False
        for element in elements:
            if element is None:
                has_nulls = True
                parts.append(_NULL)
            else:
                encoded = to_bytes(element)
                parts += len(encoded).to_bytes(4, "big"), encoded
        parts[0] = _HEAD.pack(1, has_nulls, oid, len(elements), 1)
        return b"".join(parts)

    return encode


def _decoder(from_bytes: Callable[[bytes], Element]) -> Callable[[bytes], list[Element | None]]:
    def decode(data: bytes) -> list[Element | None]:
        dimensions, _, _ = _EMPTY.unpack_from(data)
        if dimensions > 1:
            raise ValueError("an array with several dimensions")
        elements: list[Element | None] = []
        at = _HEAD.size
        while at < len(data):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size
            elements.append(None if length < 0 else from_bytes(data[at : at + length]))
            at += max(length, 0)
        return elements

    return decode
