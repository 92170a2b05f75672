"""Generate JSON Schemas of wire types, for requests and for answers.

They follow the converter's rules (wire/converter.py). A request may omit fields with a default and may not
have unknown keys. An answer has every field that cannot be absent, and may get new keys in later versions.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs

from cgworker.wire.absent import ABSENT, Absent
from cgworker.wire.converter import unstructure
from cgworker.wire.credentials import Moment
from cgworker.wire.turns import Anchor, ChildDerivation, Delay, RootRequest
from cgworker.wire.values import MAX_DELAY_SECONDS

Schema = dict[str, Any]

_INSTANT: Schema = {"type": "string", "format": "date-time"}
_PLAIN: Mapping[Any, Schema] = {
    Any: {},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "format": "int64"},
    float: {"type": "number"},
    datetime: _INSTANT,
    types.NoneType: {"type": "null"},
    Anchor: {"type": "string", "maxLength": 128, "pattern": r"^[A-Za-z0-9][A-Za-z0-9._:@/-]*$"},
    Delay: {"type": "number", "minimum": 0, "maximum": MAX_DELAY_SECONDS},
    Moment: {"anyOf": [_INSTANT, {"type": "number", "description": "Seconds since 1970."}]},
}

# The two kinds of authority are distinguished by a `mode` on the wire.
_MODES: Mapping[type, str] = {RootRequest: "root_request", ChildDerivation: "child_derivation"}

_FOR_MAINTAINERS = re.compile(r"\s*\([^()]*(?:(?:wire|admission|command line|differences?) \d|see `)[^()]*\)")


def description_of(text: str | None) -> str:
    """Return a docstring as one paragraph, without references for readers of the source."""
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
        self._answers: set[type] = set()

    def of_answer(self, kind: Any) -> Schema:
        """Return the schema of a type in an answer."""
        return self._of(kind, is_request=False)

    def of_request(self, kind: Any) -> Schema:
        """Return the schema of a type in a request."""
        return self._of(kind, is_request=True)

    def _of(self, kind: Any, *, is_request: bool) -> Schema:
        if kind in _PLAIN:
            return dict(_PLAIN[kind])
        if attrs.has(kind):
            return {"$ref": f"#/components/schemas/{self._name(kind, is_request=is_request)}"}
        origin, arguments = get_origin(kind), get_args(kind)
        if origin in (Union, types.UnionType):
            present = [self._of(one, is_request=is_request) for one in arguments if one is not Absent]
            return present[0] if len(present) == 1 else {"anyOf": present}
        if origin is tuple:
            return {"type": "array", "items": self._of(arguments[0], is_request=is_request)}
        if origin is Mapping:
            return {"type": "object"}
        raise TypeError(f"there is no schema for {kind}")

    def _name(self, cls: type, *, is_request: bool) -> str:
        name = f"{cls.__name__}Input" if is_request and cls in self._answers else cls.__name__
        if not is_request:
            self._answers.add(cls)
        if name not in self.named:
            self.named[name] = {}  # reserve the name, in case the type refers to itself
            self.named[name] = self._object(cls, is_request=is_request)
        return name

    def _object(self, cls: Any, *, is_request: bool) -> Schema:
        hints = get_type_hints(cls, include_extras=True)
        properties: dict[str, Schema] = {}
        required = []
        if cls in _MODES:
            properties["mode"] = {"const": _MODES[cls]}
            required.append("mode")
        for field in attrs.fields(cls):
            schema = self._of(hints[field.name], is_request=is_request)
            properties[field.name] = schema | (_default_of(field) if is_request else {})
            if field.default is (attrs.NOTHING if is_request else field.default) and not _may_be_absent(
                field
            ):
                required.append(field.name)
        described = {"description": description_of(cls.__doc__)} if cls.__doc__ else {}
        closed = {"additionalProperties": False} if is_request else {}
        return {"type": "object", **described, "properties": properties, "required": required, **closed}


def _may_be_absent(field: attrs.Attribute[Any]) -> bool:
    return field.default is ABSENT


def _default_of(field: attrs.Attribute[Any]) -> Schema:
    default = field.default
    if default is attrs.NOTHING or default is ABSENT:
        return {}
    return {"default": {} if isinstance(default, attrs.Factory) else unstructure(default)}  # type: ignore[arg-type]
