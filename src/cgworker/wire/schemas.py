"""JSON Schemas of the types that a handler's hints name, by the rules they are read with (`plain.py`)."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from datetime import date, datetime
from types import NoneType
from typing import Annotated, Any, NotRequired, Required, get_args, get_origin, get_type_hints, is_typeddict
from uuid import UUID

import attrs
from cattrs.cols import is_any_set, is_sequence

from cgworker.wire.converter import check_json, unstructure_plain
from cgworker.wire.user_types import (
    choices_of,
    has_fields,
    is_choice,
    is_mapping,
    is_tuple,
    items_of,
    members_of,
    required_count,
)

Schema = dict[str, Any]

_PLAIN: dict[Any, Schema] = {
    Any: {},
    object: {},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    NoneType: {"type": "null"},
    None: {"type": "null"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
    UUID: {"type": "string", "format": "uuid"},
}


def json_schema(kind: Any) -> Schema:
    """The JSON Schema (2020-12) of what `kind` is read from.

    A class is described by its docstring, a field by `Annotated[str, "what it is"]`.
    """
    definitions = _Definitions()
    schema = definitions.of(kind)
    return {**schema, **({"$defs": definitions.named} if definitions.named else {})}


class _Definitions:
    """Classes by name, so that a schema can refer to a class it is in."""

    def __init__(self) -> None:
        self.named: dict[str, Schema] = {}

    def of(self, kind: Any) -> Schema:
        if isinstance(kind, NoneType | type) and kind in _PLAIN:
            return dict(_PLAIN[kind])
        if get_origin(kind) in (Required, NotRequired):
            return self.of(get_args(kind)[0])
        if get_origin(kind) is Annotated:
            return self._described(*get_args(kind))
        if has_fields(kind) or is_typeddict(kind):
            return self._reference(kind)
        if members := members_of(kind):
            return {"anyOf": [self.of(member) for member in members]}
        if is_mapping(kind):
            return {"type": "object", **self._inside("additionalProperties", get_args(kind)[1:])}
        if is_tuple(kind) and (items := items_of(kind)) is not None:
            return self._tuple(items, required_count(kind))
        if is_tuple(kind) or is_sequence(kind):
            return {"type": "array", **self._inside("items", get_args(kind)[:1])}
        if is_any_set(kind):
            return {"type": "array", "uniqueItems": True, **self._inside("items", get_args(kind))}
        if is_choice(kind):
            return {"enum": [value for value, _ in choices_of(kind)]}
        return {}

    def _described(self, kind: Any, *notes: Any) -> Schema:
        said = [note for note in notes if isinstance(note, str)]
        return {**self.of(kind), **({"description": said[0]} if said else {})}

    def _inside(self, keyword: str, kinds: tuple[Any, ...]) -> Schema:
        return {keyword: self.of(kinds[0])} if kinds else {}

    def _tuple(self, items: tuple[Any, ...], least: int) -> Schema:
        each = {"prefixItems": [self.of(item) for item in items]} if items else {}
        return {"type": "array", **each, "minItems": least, "maxItems": len(items)}

    def _reference(self, cls: type) -> Schema:
        name = cls.__name__
        if name not in self.named:
            self.named[name] = {}  # taken, in case the class leads back to itself
            self.named[name] = self._object(cls)
        return {"$ref": f"#/$defs/{name}"}

    def _object(self, cls: type) -> Schema:
        hints = get_type_hints(cls, include_extras=True)
        fields = list(_fields_of(cls))
        described = {"description": inspect.getdoc(cls)} if _has_docstring(cls) else {}
        return {
            "type": "object",
            **described,
            "properties": {name: {**self.of(hints[name]), **default} for name, _, default in fields},
            "required": [name for name, is_required, _ in fields if is_required],
        }


def _has_docstring(cls: type) -> bool:
    """Whether somebody wrote one; dataclasses write one themselves, their signature."""
    return bool(cls.__doc__) and not str(cls.__doc__).startswith(f"{cls.__name__}(")


def _fields_of(cls: Any) -> Iterator[tuple[str, bool, Schema]]:
    """Name, whether it must be there, and what it is if it is not."""
    if is_typeddict(cls):
        for name in cls.__annotations__:
            yield name, name in cls.__required_keys__, {}
    elif attrs.has(cls):
        for field in (field for field in attrs.fields(cls) if field.init):
            yield field.name, field.default is attrs.NOTHING, _default_of(field.default)
    else:
        for each in (each for each in dataclasses.fields(cls) if each.init):
            must = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
            yield each.name, must, _default_of(each.default)


def _default_of(default: Any) -> Schema:
    """The default, where there is one and it is plain JSON."""
    if default in (attrs.NOTHING, dataclasses.MISSING):
        return {}
    try:
        plain = unstructure_plain(default)
        check_json(plain)
    except (TypeError, ValueError):
        return {}
    return {"default": plain}
