"""The JSON Schema of a handler's input says what the converter reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, TypedDict

import jsonschema
import pytest
from attrs import Factory, frozen

from cgworker.errors import InvalidRequest
from cgworker.wire.converter import structure_plain
from cgworker.wire.schemas import json_schema


@frozen
class Node:
    """A node of a tree."""

    name: Annotated[str, "how it is called"]
    weight: float = 1.5
    at: datetime | None = None
    children: list[Node] = Factory(list)


@dataclass
class Query:
    text: str
    kind: Literal["quick", "thorough"] = "quick"
    limits: dict[str, int] = field(default_factory=dict)


class Named(TypedDict):
    item: str


class Order(Named, total=False):
    count: int


def test_a_class_is_described_field_by_field() -> None:
    """Docstring, defaults, what is required, and a class within itself."""
    schema = json_schema(Node)
    assert schema["$ref"] == "#/$defs/Node"
    node = schema["$defs"]["Node"]
    assert (node["description"], node["required"]) == ("A node of a tree.", ["name"])
    assert node["properties"]["name"] == {"type": "string", "description": "how it is called"}
    assert node["properties"]["weight"] == {"type": "number", "default": 1.5}
    assert node["properties"]["children"] == {"type": "array", "items": {"$ref": "#/$defs/Node"}}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Node, {"name": "a", "children": [{"name": "b"}]}),
        (Node, {"name": 1}),
        (Node, {"name": "a", "children": "b"}),
        (Query, {"text": "a", "kind": "thorough", "limits": {"a": 1}}),
        (Query, {"text": "a", "kind": "slow"}),
        (Query, {"text": "a", "limits": {"a": "1"}}),
        (Order, {"item": "a"}),
        (Order, {"count": 1}),
        (int | list[str], ["a"]),
        (int | list[str], "a"),
        (str | None, None),
        (tuple[int, ...], [1]),
        (dict[str, Any], {"a": object}),
        (Any, 3),
    ],
    ids=str,
)
def test_the_schema_and_the_converter_agree(kind: Any, value: Any) -> None:
    """What the one takes the other takes."""
    schema = json_schema(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    try:
        structure_plain(kind, value)
        is_read = True
    except InvalidRequest:
        is_read = False
    assert jsonschema.Draft202012Validator(schema).is_valid(value) == is_read
