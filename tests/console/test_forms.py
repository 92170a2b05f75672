"""Forms of JSON Schemas: the value of what was typed, and faults at their fields."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgworker.console.forms import FormField, SchemaForm
from cgworker.console.text import in_ascii, laid_out, shown_json
from cgworker.wire.absent import ABSENT
from cgworker.wire.converter import dumps, loads
from cgworker.wire.schemas import json_schema
from tests.console.sample import Approval

SCHEMA = json_schema(Approval)


def fields_of(form: SchemaForm) -> dict[tuple[str | int, ...], FormField]:
    """The fields of a form by their places."""
    found: dict[tuple[str | int, ...], FormField] = {}

    def add(field: FormField) -> None:
        found[field.location] = field
        for each in field.fields:
            add(each)

    add(form.root)
    return found


def filled(schema: Any, typed: dict[tuple[str | int, ...], str], **more: str) -> SchemaForm:
    """A form into which this was typed, by place."""
    names = {place: field.name for place, field in fields_of(SchemaForm(schema, label="x")).items()}
    return SchemaForm(schema, label="x", typed={**{names[at]: text for at, text in typed.items()}, **more})


def test_what_was_typed_becomes_a_value_of_the_schema() -> None:
    """Objects, enums, numbers, booleans, arrays, nested; what is empty and optional is left out."""
    tags = fields_of(SchemaForm(SCHEMA, label="x"))[("tags",)].name
    typed: dict[tuple[str | int, ...], str] = {
        ("approved",): "true",
        ("stars",): "4",
        ("size",): "1",
        ("place", "city"): "Bodø",
    }
    form = filled(SCHEMA, typed, **{f"{tags}-count": "2", f"{tags}-0": "north", f"{tags}-1": "sea"})
    assert form.read() == {
        "approved": True,
        "stars": 4,
        "size": "large",
        "tags": ["north", "sea"],
        "place": {"city": "Bodø"},
    }


def test_a_fault_is_shown_at_its_field() -> None:
    """What is missing, and what is no number, each where it was typed."""
    form = filled(SCHEMA, {("stars",): "many", ("place", "city"): "Oslo"})
    assert form.read() is ABSENT
    assert fields_of(form)[("stars",)].faults == ["is not a number"]
    form = filled(SCHEMA, {("stars",): "4.5", ("place", "city"): "Oslo"})
    assert form.read() is ABSENT
    assert fields_of(form)[("approved",)].faults == ["is required"]
    assert "integer" in fields_of(form)[("stars",)].faults[0]


def test_a_required_text_that_is_left_empty_is_missing() -> None:
    """Who fills in nothing means nothing; two quotes are an empty text, and what is optional is left out."""
    place = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "place": place},
        "required": ["name"],
    }
    form = filled(schema, {("name",): ""})
    assert form.read() is ABSENT
    assert fields_of(form)[("name",)].faults == ['is required; type "" for an empty text']
    assert filled(schema, {("name",): '""'}).read() == {"name": ""}
    assert SchemaForm({"type": "string"}, label="x", typed={"v": ""}).read() is ABSENT


def test_an_array_grows_and_shrinks() -> None:
    """The buttons add a field and take the last away; what was typed stays."""
    schema = {"type": "array", "items": {"type": "string"}, "default": ["a"]}
    assert [each.typed for each in SchemaForm(schema, label="x").root.fields] == ["a"]
    grown = SchemaForm(schema, label="x", typed={"v-count": "1", "v-0": "b", "add": "v"})
    assert [each.typed for each in grown.root.fields] == ["b", ""]
    shrunk = SchemaForm(schema, label="x", typed={"v-count": "1", "v-0": "b", "remove": "v"})
    assert shrunk.root.fields == ()


@pytest.mark.parametrize(
    ("schema", "typed", "value"),
    [
        ({"type": ["string", "null"]}, "", None),
        ({"enum": ["a", None, 3]}, "2", 3),
        ({"const": {"a": 1}}, "0", {"a": 1}),
        ({}, '{"a": [1]}', {"a": [1]}),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "7", 7),
        ({"type": "object"}, '{"free": true}', {"free": True}),
        ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, '"x"', "x"),
    ],
    ids=str,
)
def test_a_single_field_makes_a_value(schema: Any, typed: str, value: Any) -> None:
    """Null, choices of any type, and JSON for what no field can show."""
    assert SchemaForm(schema, label="x", typed={"v": typed}).read() == value


@pytest.mark.parametrize("typed", ["NaN", "-Infinity", '"\\ud800"'])
def test_what_is_no_json_is_refused_as_such(typed: str) -> None:
    """Python reads it, and the kernel would get null or nothing at all."""
    form = SchemaForm({"type": "number"} if typed[0] != '"' else {}, label="x", typed={"v": typed})
    assert form.read() is ABSENT
    assert form.root.faults


def test_a_number_keeps_its_digits() -> None:
    """From the form to the kernel, and from a record to its page."""
    digits = "1.50000000000000000001"
    value = SchemaForm({"type": "number"}, label="x", typed={"v": digits}).read()
    assert dumps(value).decode() == shown_json(value) == digits
    (field,) = fields_of(SchemaForm({"type": "number", "default": value}, label="x")).values()
    assert field.typed == digits


def test_a_text_in_ascii_is_the_same_json() -> None:
    """Whatever the characters."""
    value = {"\u202e": "é\U0001f600\x7f"}
    assert in_ascii(laid_out(value)).isascii()
    assert loads(in_ascii(laid_out(value))) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
WORDS = st.sampled_from(
    (
        *("type", "properties", "items", "enum", "$ref", "anyOf", "required", "default", "const", "title"),
        *("minItems", "maxLength", "description", "$defs"),
    )
)
KINDS = st.sampled_from(["string", "object", "array", "integer", "null", "boolean", "number", 7, None])


@given(
    schema=st.dictionaries(
        WORDS, JSON | KINDS | st.dictionaries(WORDS, JSON | KINDS, max_size=4), max_size=6
    ),
    typed=st.dictionaries(st.sampled_from(["v", "v-0", "v-count", "add", "v-0-0"]), st.text(max_size=30)),
)
def test_no_schema_of_an_agent_breaks_the_form(schema: Any, typed: dict[str, str]) -> None:
    """Whatever it says, and whatever was typed: a value of it, or faults."""
    form = SchemaForm(schema, label="x", typed=typed)
    SchemaForm(schema, label="x")
    if form.read() is ABSENT:
        assert any(field.faults for field in fields_of(form).values())
