"""Read a user's own types from JSON, without silent conversions.

A string is not a list, and `1` is neither `"1"` nor `True`; the values of a `dict[str, int]` are checked.
For a union the first member that fits is used; classes that have all the keys as fields come first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import date
from enum import Enum
from types import GenericAlias, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs
from cattrs import BaseValidationError, Converter, IterableValidationError, IterableValidationNote
from cattrs.cols import (
    is_any_set,
    is_namedtuple,
    is_sequence,
    list_structure_factory,
    mapping_structure_factory,
)

from cgworker.wire.values import Fault

Read = Callable[[Any, Any], Any]


def has_fields(cls: Any) -> bool:
    """Return True for an attrs class or a dataclass.

    Args:
        cls: any type.
    """
    return isinstance(cls, type) and (attrs.has(cls) or dataclasses.is_dataclass(cls))


def members_of(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union; empty for any other type.

    Args:
        kind: any type.
    """
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else ()


def is_choice(kind: Any) -> bool:
    """Return True for an Enum or a Literal.

    Args:
        kind: any type.
    """
    return get_origin(kind) is Literal or (isinstance(kind, type) and issubclass(kind, Enum))


def is_mapping(kind: Any) -> bool:
    """Return True for `dict` or `Mapping`, with or without the type of its values.

    Args:
        kind: any type.
    """
    return kind in (dict, Mapping) or get_origin(kind) in (dict, Mapping)


def is_list(kind: Any) -> bool:
    """Return True for a sequence of any length other than a tuple, which the converter reads itself.

    Args:
        kind: any type.
    """
    return is_sequence(kind) and not is_tuple(kind)


def is_tuple(kind: Any) -> bool:
    """Return True for a tuple of any form, or a NamedTuple.

    Args:
        kind: any type.
    """
    return kind is tuple or get_origin(kind) is tuple or is_namedtuple(kind)


def items_of(kind: Any) -> tuple[Any, ...] | None:
    """Return the types of a tuple's items by position; None if it holds any number of one type.

    Args:
        kind: a tuple type.
    """
    if is_namedtuple(kind):
        hints = get_type_hints(kind, include_extras=True)
        return tuple(hints.get(name, Any) for name in kind._fields)
    members = get_args(kind)
    return None if kind is tuple or members[1:] == (...,) else members


def required_count(kind: Any) -> int:
    """Return how many items a tuple needs: all of them, except those of a NamedTuple with a default.

    Args:
        kind: a tuple type.
    """
    return len(items_of(kind) or ()) - len(getattr(kind, "_field_defaults", ()))


def register_hooks(converter: Converter) -> Converter:
    """Add the reading of these types to a converter, and return it.

    Args:
        converter: the converter.
    """
    converter.register_structure_hook_func(lambda kind: kind is object, lambda value, _: value)
    converter.register_structure_hook(bytes, _refuse)
    converter.register_structure_hook_func(lambda kind: kind is NoneType, _read_null)
    converter.register_structure_hook_func(lambda kind: kind is UUID, _reads_text(UUID))
    converter.register_structure_hook_func(lambda kind: kind is date, _reads_text(date.fromisoformat))
    converter.register_structure_hook_factory(is_list, _reads_list)
    converter.register_structure_hook_factory(_has_items, _reads_items)
    converter.register_structure_hook_factory(is_any_set, _reads_set)
    converter.register_structure_hook_factory(is_mapping, _reads_mapping)
    converter.register_structure_hook_factory(is_choice, _reads_choice)
    converter.register_structure_hook_factory(_is_open_union, _reads_first_that_fits)
    return converter


def _refuse(_: Any, kind: Any) -> Any:
    raise Fault("type_error", f"JSON has no {kind.__name__}")


def _read_null(value: Any, _: Any) -> None:
    if value is not None:
        raise Fault("none_type", "Input should be null")


def _reads_text(parse: Callable[[str], Any]) -> Read:
    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, str):
            raise Fault("string_type", "Input should be a valid string")
        return parse(value)

    return read


def _reads_list(kind: Any, converter: Converter) -> Read:
    return _reads_if(list, "list", list_structure_factory(kind, converter))


def _has_items(kind: Any) -> bool:
    return is_tuple(kind) and items_of(kind) is not None


def _reads_items(kind: Any, converter: Converter) -> Read:
    """Read a tuple whose items have a type each, or a NamedTuple."""
    members, least = items_of(kind) or (), required_count(kind)
    readers = [converter.get_structure_hook(member) for member in members]
    wanted = str(len(members)) if least == len(members) else f"{least} to {len(members)}"

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, list) or not least <= len(value) <= len(members):
            raise Fault("tuple_type", f"Input should be a list of {wanted} items")
        items, faults = [], []
        for index, (reader, member, item) in enumerate(zip(readers, members, value, strict=False)):
            try:
                items.append(reader(item, member))
            except (BaseValidationError, ValueError) as fault:
                fault.__notes__ = [IterableValidationNote(f"item {index}", index, member)]
                faults.append(fault)
        if faults:
            raise IterableValidationError("items do not fit", faults, kind)
        return kind(*items) if is_namedtuple(kind) else tuple(items)

    return read


def _reads_set(kind: Any, converter: Converter) -> Read:
    read_list = converter.get_structure_hook(GenericAlias(list, get_args(kind) or Any))
    make = get_origin(kind) or kind
    return lambda value, _: make(read_list(value, list))


def _reads_mapping(kind: Any, converter: Converter) -> Read:
    if not get_args(kind):
        return _reads_if(dict, "dictionary", lambda value, _: value)
    return _reads_if(dict, "dictionary", mapping_structure_factory(kind, converter))


def _reads_if(wanted: type, name: str, read_it: Read) -> Read:
    def read(value: Any, kind: Any) -> Any:
        if not isinstance(value, wanted):
            raise Fault(f"{wanted.__name__}_type", f"Input should be a valid {name}")
        return read_it(value, kind)

    return read


def _reads_choice(kind: Any, _: Converter) -> Read:
    """Read one of several values. Its type must be equal too: `True` is not `1`."""
    choices = {(type(value), value): member for value, member in choices_of(kind)}
    shown = ", ".join(repr(value) for _, value in choices)

    def read(value: Any, _: Any) -> Any:
        try:
            return choices[type(value), value]
        except (KeyError, TypeError):
            raise Fault("enum", f"Input should be one of {shown}") from None

    return read


def choices_of(kind: Any) -> list[tuple[Any, Any]]:
    """Return the JSON values of an Enum or a Literal, each with the member it stands for.

    Args:
        kind: the Enum or Literal.
    """
    if get_origin(kind) is Literal:
        return [(each.value if isinstance(each, Enum) else each, each) for each in get_args(kind)]
    return [(member.value, member) for member in kind]


def _is_open_union(kind: Any) -> bool:
    """Return True for a union of several types besides None. cattrs would guess the class, inconsistently."""
    return len([each for each in members_of(kind) if each is not NoneType]) > 1


def _reads_first_that_fits(kind: Any, converter: Converter) -> Read:
    # float comes last, because it accepts an int as well.
    members = sorted(members_of(kind), key=lambda member: member is float)
    readers = {member: converter.get_structure_hook(member) for member in members}

    def read(value: Any, _: Any) -> Any:
        for member in sorted(members, key=lambda member: _unknown_count(member, value)):
            try:
                return readers[member](value, member)
            except (BaseValidationError, ValueError):
                continue
        raise Fault("union_type", f"Input fits none of {', '.join(map(_name_of, members))}")

    return read


def _unknown_count(kind: Any, value: Any) -> int:
    """Return how many keys are not fields of a class: the class with the fewest is tried first."""
    if not isinstance(value, dict) or not has_fields(kind):
        return 0
    return len(value.keys() - set(get_type_hints(kind)))


def _name_of(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)
