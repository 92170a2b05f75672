"""Generate JSON Schemas of wire types, for requests and for answers.

They follow the converter's rules (wire/converter.py). A request may omit fields with a default and may not
have unknown keys. An answer has every field that cannot be absent, and may get new keys in later versions.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

import attrs

from cgworker.wire.absent import ABSENT
from cgworker.wire.credentials import Moment
from cgworker.wire.dispatch_many import DispatchItem
from cgworker.wire.order import OrderKey, Priority
from cgworker.wire.schemas import TYPES, Schema, SchemaGenerator, default_of
from cgworker.wire.turns import Anchor, ChildDerivation, Delay, Dispatch, RootRequest
from cgworker.wire.values import MAX_DELAY_SECONDS

# The two kinds of authority are distinguished by a `mode` on the wire.
_MODES: Mapping[type, str] = {RootRequest: "root_request", ChildDerivation: "child_derivation"}

_FOR_MAINTAINERS = re.compile(r"\s*\([^()]*(?:(?:wire|admission|command line|differences?) \d|see `)[^()]*\)")


_ENTRY = re.compile(r"^    (\w+): (.*(?:\n        .*)*)", re.MULTILINE)


def description_of(text: str | None) -> str:
    """Return a docstring as one paragraph, without references for readers of the source.

    Args:
        text: the docstring.
    """
    return _FOR_MAINTAINERS.sub("", " ".join(inspect.cleandoc(text or "").split()))


class Schemas:
    """A set of schemas that refer to each other by name.

    A type in both requests and answers has two schemas; the one for requests is called `...Input`. Ask for
    all answers first, so that the names do not depend on the order.

    Attributes:
        named: the schema of each wire type met so far, by name.
    """

    def __init__(self) -> None:
        self.named: dict[str, Schema] = {}
        self._answers = _AnswerSchemas(self.named)
        self._requests = _RequestSchemas(self.named, self._answers.classes)

    def of_answer(self, kind: Any) -> Schema:
        """Return the schema of a type in an answer.

        Args:
            kind: the type.
        """
        return self._answers.of(kind)

    def of_request(self, kind: Any) -> Schema:
        """Return the schema of a type in a request.

        Args:
            kind: the type.
        """
        return self._requests.of(kind)


class _WireSchemas(SchemaGenerator):
    types: ClassVar[Mapping[Any, Schema]] = {
        **TYPES,
        int: {"type": "integer", "format": "int64"},
        Mapping[str, Any]: {"type": "object"},
        Anchor: {"type": "string", "maxLength": 128, "pattern": r"^[A-Za-z0-9][A-Za-z0-9._:@/-]*$"},
        Delay: {"type": "number", "minimum": 0, "maximum": MAX_DELAY_SECONDS},
        Priority: {"type": "integer", "minimum": -100, "maximum": 100},
        OrderKey: {"type": "string", "minLength": 1, "maxLength": 200},
        Moment: {"anyOf": [TYPES[datetime], {"type": "number", "description": "Seconds since 1970."}]},
    }
    root: ClassVar[str] = "#/components/schemas/"

    def object_of(self, cls: type) -> Schema:
        schema = super().object_of(cls)
        for name, text in _attributes_of(cls).items():
            schema["properties"][name]["description"] = text
        if (mode := _MODES.get(cls)) is not None:
            schema["properties"] = {"mode": {"const": mode}, **schema["properties"]}
            schema["required"] = ["mode", *schema["required"]]
        return schema

    def of(self, kind: Any) -> Schema:
        return super().of(Dispatch if kind == DispatchItem else kind)

    def description_of(self, cls: type) -> str | None:
        return description_of((cls.__doc__ or "").partition("Attributes:\n")[0])


class _AnswerSchemas(_WireSchemas):
    def __init__(self, named: dict[str, Schema]) -> None:
        self.named = named
        self.classes: set[type] = set()

    def name_of(self, cls: type) -> str:
        self.classes.add(cls)
        return cls.__name__

    def fields_of(self, cls: Any) -> Iterator[tuple[str, bool, Schema]]:
        for field in attrs.fields(cls):
            yield field.name, field.default is not ABSENT, {}


class _RequestSchemas(_WireSchemas):
    def __init__(self, named: dict[str, Schema], answers: set[type]) -> None:
        self.named = named
        self._answers = answers

    def name_of(self, cls: type) -> str:
        return f"{cls.__name__}Input" if cls in self._answers else cls.__name__

    def object_of(self, cls: type) -> Schema:
        return {**super().object_of(cls), "additionalProperties": False}

    def fields_of(self, cls: Any) -> Iterator[tuple[str, bool, Schema]]:
        for field in attrs.fields(cls):
            default = field.default
            if default is ABSENT:
                yield field.name, False, {}
            elif isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a class, though not to mypy
                yield field.name, False, default_of(default.factory())
            else:
                yield field.name, default is attrs.NOTHING, default_of(default)


def _attributes_of(cls: type) -> dict[str, str]:
    """Return the descriptions of fields in the docstrings of a class and its bases, by name."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
        found |= {name: description_of(text) for name, text in _ENTRY.findall(section)}
    return found
