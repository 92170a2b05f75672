"""Make a form of a JSON Schema, and a JSON value of what was typed into it.

What a form cannot show, such as alternatives or free properties, is one field for JSON. The names of the
fields are numbers, so that no property name of a schema can disturb them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from cgworker.durable.contract import faults_of
from cgworker.errors import UsageError
from cgworker.wire.absent import ABSENT
from cgworker.wire.converter import dumps, loads

_MAX_DEPTH = 6
_MAX_FIELDS = 200
_MAX_ITEMS = 50
_LONG_TEXT = 80
_EMPTY_TEXT = '""'  # what is typed for it: a field that is left empty says nothing
_MISSING = re.compile(r"(?P<name>'.*'|\".*\") is a required property\Z", re.DOTALL)

Location = tuple[str | int, ...]


@frozen(kw_only=True)
class FormField:
    """A field of a form, or a group of them.

    Attributes:
        name: its name in the form.
        location: where its value is in the whole value.
        kind: "text", "number", "boolean", "choice", "json", "object" or "array".
        label: its name for people.
        help: what its schema says about it.
        required: whether the value needs it.
        nullable: whether it may be null; a required one that is empty is then null.
        typed: what stands in it.
        choices: the values to choose from.
        fields: the fields of a group, or the items of an array.
        keys: the property names of `fields`.
        is_long: whether it has more than one line.
        faults: what is wrong with its value.
    """

    name: str
    location: Location
    kind: str
    label: str
    help: str = ""
    required: bool = False
    nullable: bool = False
    typed: str = ""
    choices: tuple[Any, ...] = ()
    fields: tuple[FormField, ...] = ()
    keys: tuple[str, ...] = ()
    is_long: bool = False
    faults: list[str] = field(factory=list)


class SchemaForm:
    """A form of a schema.

    Args:
        schema: the JSON Schema.
        label: what the whole value is called.
        typed: what was typed, by the names of the fields; None makes a fresh form with the defaults.

    Attributes:
        root: the field of the whole value.
    """

    def __init__(
        self, schema: Mapping[str, Any], *, label: str, typed: Mapping[str, str] | None = None
    ) -> None:
        self._schema = schema
        self._typed = typed
        self._count = 0
        self.root: FormField = self._build(
            schema, "v", (), label, required=True, default=schema.get("default", ABSENT)
        )

    # ------------------------------------------------------------ the fields

    def _build(
        self, schema: Any, name: str, location: Location, label: str, *, required: bool, default: Any
    ) -> FormField:
        self._count += 1
        schema, nullable = _without_null(self._resolved(schema))
        default = schema.get("default", ABSENT) if default is ABSENT else default
        kind = _kind_of(schema)
        if len(location) > _MAX_DEPTH or self._count > _MAX_FIELDS:
            kind = "json"
        common: dict[str, Any] = {
            "name": name,
            "location": location,
            "kind": kind,
            "label": str(schema.get("title") or label),
            "help": str(schema.get("description") or ""),
            "required": required,
            "nullable": nullable,
        }
        if kind == "object":
            return self._build_object(schema, common, default)
        if kind == "array":
            return self._build_array(schema, common, default)
        choices = tuple(schema["enum"]) if "enum" in schema else ()
        if "const" in schema:
            choices, default = (schema["const"],), schema["const"]
        typed = self._typed.get(name, "") if self._typed is not None else _typed_of(kind, choices, default)
        is_long = kind == "text" and schema.get("maxLength", 1000) > _LONG_TEXT and "format" not in schema
        return FormField(**common, choices=choices, typed=typed, is_long=is_long)

    def _build_object(self, schema: Mapping[str, Any], common: dict[str, Any], default: Any) -> FormField:
        properties, required = schema["properties"], schema.get("required") or ()
        values = default if isinstance(default, Mapping) else {}
        fields = tuple(
            self._build(
                each,
                f"{common['name']}-{place}",
                (*common["location"], key),
                key,
                required=key in required,
                default=values.get(key, ABSENT),
            )
            for place, (key, each) in enumerate(properties.items())
        )
        return FormField(**common, fields=fields, keys=tuple(properties))

    def _build_array(self, schema: Mapping[str, Any], common: dict[str, Any], default: Any) -> FormField:
        name, values = common["name"], default if isinstance(default, list) else []
        count = max(len(values), schema.get("minItems", 0) if common["required"] else 0)
        if self._typed is not None:
            count = _number(self._typed.get(f"{name}-count", ""))
            count += self._typed.get("add") == name
            count -= self._typed.get("remove") == name
        fields = tuple(
            self._build(
                schema.get("items", {}),
                f"{name}-{place}",
                (*common["location"], place),
                str(place + 1),
                required=True,
                default=values[place] if place < len(values) else ABSENT,
            )
            for place in range(max(0, min(count, _MAX_ITEMS)))
        )
        return FormField(**common, fields=fields)

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        for _ in range(_MAX_DEPTH):
            if not isinstance(schema, Mapping) or "$ref" not in schema:
                break
            found: Any = self._schema
            for part in str(schema["$ref"]).removeprefix("#/").split("/"):
                found = found.get(part) if isinstance(found, Mapping) else None
            rest = {word: value for word, value in schema.items() if word != "$ref"}
            schema = {**found, **rest} if isinstance(found, Mapping) else rest
        return _well_formed(schema) if isinstance(schema, Mapping) else {}

    # ------------------------------------------------------------ the value

    def read(self) -> Any:
        """Return the value, and put what is wrong with it at the fields.

        Returns:
            The value; ABSENT if there are faults.
        """
        value = _value_of(self.root)
        if value is ABSENT:
            value = None if self.root.nullable else ABSENT
        if not any(each.faults for each in _all(self.root)):
            if value is ABSENT:
                self.root.faults.append(_missing_at(self.root))
            else:
                self._check(value)
        return ABSENT if any(each.faults for each in _all(self.root)) else value

    def _check(self, value: Any) -> None:
        try:
            faults = faults_of(value, self._schema)
        except UsageError as broken:
            self.root.faults.append(str(broken))
            return
        self.note(faults)

    def note(self, faults: Sequence[Mapping[str, Any]]) -> None:
        """Put faults at the fields that they are about.

        Args:
            faults: as in `InvalidRequest`.
        """
        places = {each.location: each for each in _all(self.root)}
        for fault in faults:
            location, message = tuple(fault.get("loc", ()))[1:], str(fault.get("msg"))
            missing = _MISSING.match(message) if fault.get("type") == "required" else None
            if missing and (*location, missing["name"][1:-1]) in places:
                location = (*location, missing["name"][1:-1])
                message = _missing_at(places[location])
            while location not in places:
                location = location[:-1]
            places[location].faults.append(message)


def _missing_at(form_field: FormField) -> str:
    return (
        f"is required; type {_EMPTY_TEXT} for an empty text" if form_field.kind == "text" else "is required"
    )


def _all(form_field: FormField) -> Iterator[FormField]:
    yield form_field
    for each in form_field.fields:
        yield from _all(each)


_SHAPES: Mapping[str, type | tuple[type, ...]] = {
    "enum": list,
    "required": list,
    "properties": Mapping,
    "maxLength": int,
    "minItems": int,
}


def _well_formed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema without the keywords whose values are of no use to a form."""
    return {
        word: value
        for word, value in schema.items()
        if isinstance(value, _SHAPES.get(word, object)) and not (word in _SHAPES and isinstance(value, bool))
    }


def _without_null(schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """Return the schema of what is not null, and whether null is allowed besides."""
    kinds = schema.get("type")
    if isinstance(kinds, list) and "null" in kinds and len(kinds) == 2:
        return {**schema, "type": next(kind for kind in kinds if kind != "null")}, True
    for word in ("anyOf", "oneOf"):
        ways = schema.get(word)
        if isinstance(ways, list) and len(ways) == 2 and {"type": "null"} in ways:
            other = next((way for way in ways if way != {"type": "null"}), None)
            if isinstance(other, Mapping) and "$ref" not in other:
                return _well_formed({**{k: v for k, v in schema.items() if k != word}, **other}), True
    return schema, False


def _kind_of(schema: Mapping[str, Any]) -> str:
    if isinstance(schema.get("enum"), list) or "const" in schema:
        return "choice"
    properties = schema.get("properties")
    match schema.get("type"):
        case "string":
            return "text"
        case "integer" | "number":
            return "number"
        case "boolean":
            return "boolean"
        case "array" if not schema.get("prefixItems"):
            return "array"
        case "object" if isinstance(properties, Mapping) and properties:
            return "object"
    return "json"


def _typed_of(kind: str, choices: Sequence[Any], default: Any) -> str:
    """Return what stands in a fresh field with this default."""
    if default is ABSENT or default is None:
        return ""
    if kind == "choice":
        return str(choices.index(default)) if default in choices else ""
    if kind == "text" and isinstance(default, str):
        return default
    return dumps(default).decode()


def _value_of(form_field: FormField) -> Any:
    """Return the value of a field; ABSENT if nothing was typed."""
    if form_field.kind == "object":
        found = zip(form_field.keys, map(_value_of, form_field.fields), strict=True)
        values = {key: value for key, value in found if value is not ABSENT}
        is_empty = not any(value is not None for value in values.values())
        return values if form_field.required or not is_empty else ABSENT
    if form_field.kind == "array":
        items = [value for each in form_field.fields if (value := _value_of(each)) is not ABSENT]
        return items if items or form_field.required else ABSENT
    if form_field.typed == "":
        return None if form_field.nullable and form_field.required else ABSENT
    return _read_typed(form_field)


def _read_typed(form_field: FormField) -> Any:
    typed = form_field.typed.replace("\r\n", "\n")
    if form_field.kind == "text":
        return "" if typed == _EMPTY_TEXT else typed
    if form_field.kind == "choice":
        place = _number(typed)
        return form_field.choices[place] if place < len(form_field.choices) else ABSENT
    try:
        return loads(typed)
    except (ValueError, RecursionError):
        form_field.faults.append("is not a number" if form_field.kind == "number" else "is not JSON")
        return ABSENT


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
