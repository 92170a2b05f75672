"""Read and write wire types: the hooks of the converters for requests and answers."""

from __future__ import annotations

import types
from collections.abc import Callable
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any, Union, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.fns import identity
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from orjson import Fragment

from cgworker.wire.absent import ABSENT, Absent
from cgworker.wire.faults import MAX_FAULTS
from cgworker.wire.lazy import Lazy
from cgworker.wire.user_types import has_fields, is_mapping
from cgworker.wire.user_values import is_own
from cgworker.wire.values import (
    ExactNumber,
    Fault,
    ItemFaults,
    Read,
    object_reader,
    or_null,
    read_datetime,
    read_float,
    read_lax_bool,
    read_lax_int,
    read_mapping,
    read_str,
    read_strict_bool,
    read_strict_int,
)


def wire_converter(
    write_user_value: Callable[[Any], Any], *, strict: bool, says_where: bool = True
) -> Converter:
    """Return a converter of wire types.

    Args:
        write_user_value: converts a user's own value to JSON values.
        strict: read requests: unknown fields are refused, and values are read as laxly as in the reference.
        says_where: faults say where they are; without this, reading takes half the time.
    """
    converter = Converter(forbid_extra_keys=strict, detailed_validation=says_where)
    converter.register_structure_hook(str, read_str)
    converter.register_structure_hook(bool, read_lax_bool if strict else read_strict_bool)
    converter.register_structure_hook(int, read_lax_int if strict else read_strict_int)
    converter.register_structure_hook(float, read_float)
    converter.register_structure_hook(datetime, read_datetime)
    converter.register_unstructure_hook(datetime, identity)  # orjson writes it
    converter.register_unstructure_hook(ExactNumber, identity)
    converter.register_structure_hook_factory(
        has_fields, _reads_object(converter, strict=strict, says_where=says_where)
    )
    converter.register_unstructure_hook_func(has_fields, write_user_value)
    converter.register_unstructure_hook_factory(is_own, _writes_object(converter))
    converter.register_structure_hook_factory(_is_tuple, _reads_tuple(converter))
    converter.register_unstructure_hook_factory(_is_tuple, _writes_tuple(converter))
    converter.register_structure_hook_func(is_mapping, read_mapping)
    converter.register_unstructure_hook_func(is_mapping, identity)  # JSON already, or JsonText
    converter.register_structure_hook_factory(_is_optional, _reads_optional(converter))
    converter.register_unstructure_hook_factory(_is_optional, _writes_optional(converter))
    converter.register_structure_hook_factory(_is_maybe_absent, _reads_present(converter))
    converter.register_unstructure_hook_factory(_is_maybe_absent, _writes_present(converter))
    return converter


def _reads_tuple(converter: Converter) -> Callable[[Any], Read]:
    def factory(cls: Any) -> Read:
        kind = get_args(cls)[0]
        read_item = converter.get_structure_hook(kind)

        def read(value: Any, _: Any) -> tuple[Any, ...]:
            if not isinstance(value, list):
                raise Fault("list_type", "Input should be a valid list")
            return _read_items(value, read_item, kind)

        return read

    return factory


def _writes_tuple(converter: Converter) -> Callable[[Any], Callable[[Any], Any]]:
    """Write a tuple; one that the kernel keeps as JSON text is written as it is."""

    def factory(cls: Any) -> Callable[[Any], Any]:
        write_item = converter.get_unstructure_hook(get_args(cls)[0])
        return lambda items: items if isinstance(items, Fragment) else [write_item(item) for item in items]

    return factory


def _read_items(items: list[Any], read: Read, kind: Any) -> tuple[Any, ...]:
    """Read all items. After `MAX_FAULTS` faults the rest is not read, since each fault costs an exception."""
    good, bad = [], []
    for place, item in enumerate(items):
        try:
            good.append(read(item, kind))
        except Exception as fault:
            bad.append((place, fault))
            if len(bad) == MAX_FAULTS:
                raise ItemFaults(bad, len(items) - place - 1) from None
    if bad:
        raise ItemFaults(bad, 0)
    return tuple(good)


def _is_tuple(cls: Any) -> bool:
    return get_origin(cls) is tuple


def _is_optional(cls: Any) -> bool:
    return _is_union(cls) and len(get_args(cls)) == 2 and type(None) in get_args(cls)


def _reads_optional(converter: Converter) -> Callable[[Any], Read]:
    """Read a value or null."""

    def factory(cls: Any) -> Read:
        (kind,) = (kind for kind in get_args(cls) if kind is not type(None))
        return or_null(converter.get_structure_hook(kind), kind)

    return factory


def _writes_optional(converter: Converter) -> Callable[[Any], Callable[[Any], Any]]:
    """Write a value or null; one that is written as it is needs no call."""

    def factory(cls: Any) -> Callable[[Any], Any]:
        (kind,) = (kind for kind in get_args(cls) if kind is not type(None))
        write = converter.get_unstructure_hook(kind)
        return write if write is identity else lambda value: None if value is None else write(value)

    return factory


def _is_maybe_absent(cls: Any) -> bool:
    return _is_union(cls) and Absent in get_args(cls)


def _is_union(cls: Any) -> bool:
    return get_origin(cls) in (Union, types.UnionType)


def _reads_present(converter: Converter) -> Callable[[Any], Read]:
    """Read a field that may be absent: if it is present, it has one of the other types of its union."""

    def factory(cls: Any) -> Read:
        present = _present_of(cls)
        read = converter.get_structure_hook(present)
        return (lambda value, _: read(value, present)) if _is_union(present) else read

    return factory


def _writes_present(converter: Converter) -> Callable[[Any], Callable[[Any], Any]]:
    """Write a field that is present; without this, the class of each value would be looked up."""
    return lambda cls: converter.get_unstructure_hook(_present_of(cls))


def _present_of(cls: Any) -> Any:
    return reduce(or_, (kind for kind in get_args(cls) if kind is not Absent))


def _reads_object(converter: Converter, *, strict: bool, says_where: bool) -> Callable[[Any], Read]:
    def factory(cls: Any) -> Read:
        if issubclass(cls, Lazy) and not strict:
            read_fields = _reads_lazily(cls)
        else:
            read_fields = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=strict)
            if not says_where and _has_required_field(
                cls
            ):  # what is no object raises there, and is read again
                return read_fields

        return object_reader(read_fields, cls)

    return factory


def _has_required_field(cls: Any) -> bool:
    return attrs.has(cls) and any(field.default is attrs.NOTHING for field in attrs.fields(cls))


def _reads_lazily(cls: type[Lazy]) -> Read:
    return lambda value, _: cls.of(value)


def _writes_object(converter: Converter) -> Callable[[Any], Callable[[Any], dict[str, Any]]]:
    def factory(cls: Any) -> Callable[[Any], dict[str, Any]]:
        may_be_absent = [field.name for field in attrs.fields(cls) if field.default is ABSENT]
        left_out = {name: override(omit_if_default=True) for name in may_be_absent}
        return make_dict_unstructure_fn(cls, converter, **left_out)  # type: ignore[arg-type]  # by field name

    return factory
