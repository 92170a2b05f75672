"""Generate JSON Schemas (2020-12) of Python types: of a handler's input, and of wire types.

`json_schema` follows the rules by which a user's types are read (`user_types.py`). The kernel's OpenAPI
document uses `SchemaGenerator` with the rules for wire types.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from types import NoneType
from typing import (
    Annotated,
    Any,
    ClassVar,
    NotRequired,
    Required,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)
from uuid import UUID

import attrs
from cattrs.cols import is_any_set, is_sequence

from cgworker.wire.absent import Absent
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
"""A JSON Schema."""

TYPES: Mapping[Any, Schema] = {
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
"""The schemas of types without parts."""


def json_schema(kind: Any) -> Schema:
    """Return the JSON Schema (2020-12) of the JSON that a type is read from.

    A class is described by its docstring, a field by `Annotated[str, "what it is"]`.

    Args:
        kind: the type; for one that is not known the schema allows everything.
    """
    generator = SchemaGenerator()
    schema = generator.of(kind)
    return {**schema, **({"$defs": generator.named} if generator.named else {})}


class SchemaGenerator:
    """Generates schemas. Each class gets a name, so that it can be referred to, even by itself.

    A subclass may change what is specific to a kind of classes.

    Attributes:
        named: the schema of each class met so far, by name.
    """

    types: ClassVar[Mapping[Any, Schema]] = TYPES
    """The schemas of types without parts."""
    root: ClassVar[str] = "#/$defs/"
    """What precedes a class's name in a reference."""

    def __init__(self) -> None:
        self.named: dict[str, Schema] = {}

    def of(self, kind: Any) -> Schema:
        """Return the schema of a type.

        Args:
            kind: the type.
        """
        if (plain := self._plain(kind)) is not None:
            return dict(plain)
        if get_origin(kind) in (Required, NotRequired):
            return self.of(get_args(kind)[0])
        if get_origin(kind) is Annotated:
            return self._described(*get_args(kind))
        if has_fields(kind) or is_typeddict(kind):
            return self._reference(kind)
        if members := members_of(kind):
            present = [self.of(member) for member in members if member is not Absent]
            return present[0] if len(present) == 1 else {"anyOf": present}
        if is_choice(kind):
            return {"enum": [value for value, _ in choices_of(kind)]}
        return self._of_collection(kind)

    def _of_collection(self, kind: Any) -> Schema:
        if is_mapping(kind):
            return {"type": "object", **self._inside("additionalProperties", get_args(kind)[1:])}
        if is_tuple(kind) and (items := items_of(kind)) is not None:
            return self._tuple(items, required_count(kind))
        if is_tuple(kind) or is_sequence(kind):
            return {"type": "array", **self._inside("items", get_args(kind)[:1])}
        if is_any_set(kind):
            return {"type": "array", "uniqueItems": True, **self._inside("items", get_args(kind))}
        return {}

    def _plain(self, kind: Any) -> Schema | None:
        try:
            return self.types.get(kind)
        except TypeError:  # a note in `Annotated` cannot be hashed
            return None

    def _described(self, kind: Any, *notes: Any) -> Schema:
        texts = [note for note in notes if isinstance(note, str)]
        return {**self.of(kind), **({"description": texts[0]} if texts else {})}

    def _inside(self, keyword: str, kinds: tuple[Any, ...]) -> Schema:
        return {keyword: self.of(kinds[0])} if kinds else {}

    def _tuple(self, items: tuple[Any, ...], min_items: int) -> Schema:
        each = {"prefixItems": [self.of(item) for item in items]} if items else {}
        return {"type": "array", **each, "minItems": min_items, "maxItems": len(items)}

    def _reference(self, cls: type) -> Schema:
        name = self.name_of(cls)
        if name not in self.named:
            self.named[name] = {}  # reserve the name, in case the class refers to itself
            self.named[name] = self.object_of(cls)
        return {"$ref": f"{self.root}{name}"}

    def name_of(self, cls: type) -> str:
        """Return the name of a class's schema.

        Args:
            cls: the class.
        """
        return cls.__name__

    def object_of(self, cls: type) -> Schema:
        """Return the schema of a class.

        Args:
            cls: the class.
        """
        hints = get_type_hints(cls, include_extras=True)
        fields = list(self.fields_of(cls))
        text = self.description_of(cls)
        return {
            "type": "object",
            **({"description": text} if text else {}),
            "properties": {name: {**self.of(hints[name]), **default} for name, _, default in fields},
            "required": [name for name, is_required, _ in fields if is_required],
        }

    def description_of(self, cls: type) -> str | None:
        """Return the description of a class; None if it has no docstring of its own.

        Args:
            cls: the class.
        """
        text = cls.__doc__
        is_own = text and not text.startswith(f"{cls.__name__}(")  # a dataclass's default is its signature
        return inspect.getdoc(cls) if is_own else None

    def fields_of(self, cls: Any) -> Iterator[tuple[str, bool, Schema]]:
        """Yield each field's name, whether it is required, and the schema part with its default.

        Args:
            cls: the class.
        """
        if is_typeddict(cls):
            for name in cls.__annotations__:
                yield name, name in cls.__required_keys__, {}
        elif attrs.has(cls):
            for field in (field for field in attrs.fields(cls) if field.init):
                yield field.name, field.default is attrs.NOTHING, default_of(field.default)
        else:
            for each in (each for each in dataclasses.fields(cls) if each.init):
                must = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
                yield each.name, must, default_of(each.default)


def default_of(default: Any) -> Schema:
    """Return the schema part with a default; empty if there is none, or it is not JSON.

    Args:
        default: the default of a field.
    """
    if default in (attrs.NOTHING, dataclasses.MISSING):
        return {}
    try:
        plain = unstructure_plain(default)
        check_json(plain)
    except (TypeError, ValueError):
        return {}
    return {"default": plain}
