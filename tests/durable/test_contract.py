"""Answers and their schemas: what does not fit is told, and neither of them costs or breaks what it likes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cgworker.durable import schema_validation
from cgworker.durable.contract import check_contract, faults_of
from cgworker.durable.regex import PatternRefused, compile_pattern
from cgworker.durable.schema_validation import MAX_WORK, TooMuchWork, Work, errors_of
from cgworker.errors import UsageError

LINE = "^a$"  # Python's `re` finds it in "a\n" too, RE2 does not

PLACES: dict[str, tuple[dict[str, Any], Any]] = {
    "pattern": ({"pattern": LINE}, "a\n"),
    "patternProperties": ({"patternProperties": {LINE: False}}, {"a": 1}),
    "additionalProperties": ({"patternProperties": {LINE: {}}, "additionalProperties": False}, {"a\n": 1}),
    "unevaluatedProperties": ({"patternProperties": {LINE: {}}, "unevaluatedProperties": False}, {"a\n": 1}),
}


def types_of(value: Any, schema: dict[str, Any]) -> list[str]:
    return [fault["type"] for fault in faults_of(value, schema)]


# ---------------------------------------------------------------- whose engine


@pytest.fixture
def no_re(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checker that has Python's `re` search for something fails."""

    def search(*_: Any) -> None:
        raise AssertionError("an expression of a schema was run by re")

    monkeypatch.setattr(re, "search", search)


@pytest.mark.usefixtures("no_re")
@pytest.mark.parametrize("keyword", PLACES)
@pytest.mark.parametrize(
    "dialect", [{}, {"$schema": Draft202012Validator.META_SCHEMA["$id"]}], ids=["", "named"]
)
def test_every_expression_of_a_schema_is_run_by_re2(keyword: str, dialect: dict[str, Any]) -> None:
    """At the top and below a reference, also where the schema names its dialect."""
    schema, value = PLACES[keyword]
    fault = "false_schema" if keyword == "patternProperties" else keyword
    below = {**dialect, "properties": {"x": {"$ref": "#/$defs/it"}}, "$defs": {"it": schema}}
    again = {**dialect, **schema, "properties": {"x": {"$ref": "#"}}}
    for checked, given in [({**dialect, **schema}, value), (below, {"x": value}), (again, {"x": value})]:
        assert types_of(given, checked) == [fault]


def test_no_value_of_a_tree_is_left_out(no_re: None) -> None:  # noqa: ARG001
    """A schema that refers to itself checks each level alike."""
    tree = {
        "$schema": Draft202012Validator.META_SCHEMA["$id"],
        "properties": {"name": {"pattern": r"^\p{L}+$"}, "child": {"$ref": "#"}},
        "unevaluatedProperties": False,
    }
    assert faults_of({"name": "é", "child": {"name": "a", "child": {"name": "b"}}}, tree) == []
    [fault] = faults_of({"name": "é", "child": {"name": "a", "child": {"name": "1"}}}, tree)
    assert fault["loc"] == ["answer", "child", "child", "name"]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^\u00e9$", "é"),
        (r"^\u{1F600}$", "😀"),
        (r"^\ud83d\ude00$", "😀"),
        (r"^\x41\cJ$", "A\n"),
        (r"^a\/b\-c$", "a/b-c"),
        (r"^\s\S$", "\xa0a"),
        (r"^[\s,]+$", "\ufeff,\u2003"),
        (r"^[\S]$", "é"),
        (r"^[[]\]$", "[]"),
        (r"^[(?=]$", "="),
        (r"^\p{Script=Greek}\p{Lu}$", "λA"),
        (r"^(?<year>\d{4})$", "2026"),
        (r"[\b]", "\b"),
        ("^.$", "\x00"),
    ],
)
def test_expressions_are_read_as_javascript_reads_them(pattern: str, text: str) -> None:
    """However RE2 spells them."""
    assert faults_of(text, {"pattern": pattern}) == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^\S$", "\xa0"),
        (r"^[\S]$", "\u2028"),
        (r"^\d$", "٣"),
        (r"^\w$", "é"),
        (r"^x{,3}$", "xx"),
        ("^a$", "a\n"),
    ],
)
def test_expressions_find_no_more_than_in_javascript(pattern: str, text: str) -> None:
    """Where Python's, or RE2's, would."""
    assert types_of(text, {"pattern": pattern}) == ["pattern"]


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("^(?=a)b", "lookaround (?=...)"),
        ("(?<!a)b", "lookaround (?<!...)"),
        (r"(a)\1", r"backreference \1"),
        (r"(?<n>a)\k<n>", r"backreference \k"),
        ("a++", "bad repetition operator"),
        ("(?:a{500}){3}", "repetition size"),
        (r"a\Z", r"no escape \Z"),
        (r"\ud800", "half a character"),
        ("[^]", "use \\]"),
        ("a\ud800", "surrogates"),
        ("(", "missing )"),
    ],
)
def test_what_cannot_be_bounded_is_refused_by_name_when_it_is_asked(pattern: str, told: str) -> None:
    """Wherever it stands, also where only a reference leads."""
    places: list[dict[str, Any]] = [
        {"pattern": pattern},
        {"patternProperties": {pattern: True}},
        {"anyOf": [{"items": {"pattern": pattern}}]},
        {"$ref": "#/elsewhere", "elsewhere": {"pattern": pattern}},
    ]
    for schema in places:
        with pytest.raises(UsageError, match=re.escape(told)):
            check_contract(schema)


def test_an_expression_has_a_greatest_size() -> None:
    """And a refused one is not written to stderr by RE2."""
    with pytest.raises(PatternRefused, match="too large"):
        compile_pattern(r"[\p{L}]{1000}")


# ---------------------------------------------------------------- schemas that cannot be used


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "quux"}, "no JSON Schema"),
        ({"$ref": "#/$defs/none"}, "none"),
        ({"items": {"$ref": "http://schemas.invalid/one"}}, "schemas.invalid"),
        ({"$dynamicRef": "#nowhere"}, "nowhere"),
        ({"$ref": "http://[odd"}, "cannot be used"),
        ({"$ref": "#/x", "x": {"minimum": "many"}}, "no JSON Schema"),
        ({"$ref": "#"}, "to itself"),
        ({"anyOf": [{"type": "null"}, {"not": {"$ref": "#"}}]}, "to itself"),
        ({"if": {"type": "string"}, "then": {"$ref": "#"}}, "to itself"),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
            "to itself",
        ),
        (json.loads('{"items":' * 300 + "{}" + "}" * 300), "nested too deeply"),
    ],
)
def test_a_schema_that_no_answer_could_be_checked_against_is_refused(schema: Any, told: str) -> None:
    """When it is asked with, as the handler's fault; nothing is fetched."""
    with pytest.raises(UsageError, match=re.escape(told)):
        check_contract(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"$ref": "#"}},
        {"$id": "http://schemas.invalid/it", "$defs": {"a": {"$id": "a", "type": "array"}}, "$ref": "a"},
        {"$defs": {"a": {"$anchor": "here", "type": "array"}}, "$ref": "#here"},
        {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array"},
        {"format": "no such format", "pattern": "^a$"},
        {"const": {"pattern": "(?=a)", "$ref": "#/nowhere"}, "default": {"type": 5}},
        {"not": {"$ref": "https://json-schema.org/draft/2020-12/schema"}},
    ],
)
def test_a_schema_that_can_be_used_is_taken(schema: Any) -> None:
    """Also one that comes back to itself further down, and JSON that only looks like a schema."""
    check_contract(schema)


# ---------------------------------------------------------------- answers that cannot be checked


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ([10**5000], {"items": {"maximum": 1}}),
        ({"a": 10**5000}, {"properties": {"a": {"multipleOf": 3}}}),
        ("a\ud800", {"pattern": "a"}),
        (nested(200), {"type": "array", "items": {"$ref": "#"}}),
        (nested(3000), {}),
        ({1, 2}, {}),
    ],
)
def test_what_checking_an_answer_raises_is_a_refused_answer(value: Any, schema: Any) -> None:
    """With a fault that says so, and no fault of the handler."""
    assert types_of(value, schema) == ["unchecked"]


def test_patterns_do_not_meet() -> None:
    """Flags, groups and alternatives of one expression say nothing in another."""
    schema = {
        "patternProperties": {"(?i)^a$": {}, "(b)": {}, "(?P<n>c)": {}, "(?P<n>d)": {}},
        "additionalProperties": False,
    }
    assert faults_of({"A": 1, "b": 1, "c": 1, "d": 1}, schema) == []
    assert types_of({"B": 1}, schema) == ["additionalProperties"]


def test_items_are_unique_by_what_they_mean() -> None:
    """1 and 1.0 are one number, true is none; the order of properties says nothing."""
    schema = {"uniqueItems": True}
    assert faults_of([1, True, "1", [1], {"a": 1}, {"a": True}], schema) == []
    alike: list[Any] = [[1, 1.0], [{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}], [[], []]]
    for twice in alike:
        assert types_of(twice, schema) == ["uniqueItems"]


@pytest.mark.parametrize(
    ("step", "number", "fits"),
    [
        (0.01, 19.99, True),
        (0.01, 0.07, True),
        (0.01, 4.355, False),
        (0.1, 1.1, True),
        (2, 4.0, True),
        (2, 3, False),
        (1e-300, 1e308, True),
        (0.5, 10**400, True),
        (0.3, 10**400, False),
        (3, True, True),
    ],
)
def test_a_price_is_a_multiple_of_a_cent(step: float, number: float, fits: bool) -> None:
    """Numbers are divided as they are written, not as binary fractions. A boolean is no number."""
    assert types_of(number, {"multipleOf": step}) == ([] if fits else ["multipleOf"])


def test_unevaluated_is_what_no_keyword_in_place_looked_at() -> None:
    """Of those that hold for the value."""
    schema = {
        "anyOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"properties": {"b": {}}}],
        "if": {"required": ["c"]},
        "then": {"properties": {"c": {}, "d": {}}},
        "dependentSchemas": {"e": {"$ref": "#/$defs/f"}},
        "$defs": {"f": {"properties": {"e": {}, "f": {}}}},
        "unevaluatedProperties": {"const": "free"},
    }
    for fits in ({"a": 1}, {"b": 1}, {"a": 1, "c": 1, "d": 1}, {"e": 1, "f": 1}, {"z": "free"}):
        assert faults_of(fits, schema) == [], fits
    for unfit in ({"a": "x"}, {"d": 1}, {"f": 1}, {"z": 1}):
        assert types_of(unfit, schema) == ["unevaluatedProperties"], unfit
    items = {"prefixItems": [{}], "contains": {"type": "string"}, "unevaluatedItems": False}
    assert faults_of([1, "a", "b"], items) == []
    assert types_of([1, "a", 2], items) == ["unevaluatedItems"]


# ---------------------------------------------------------------- how much it may cost


def work_of(value: Any, schema: Any) -> int:
    work = Work()
    for _ in errors_of(value, schema, work):
        pass
    return MAX_WORK - work.left


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"uniqueItems": True}, [{"a": 1}, {"b": 2}, {"c": 3}]),
        ({"items": {"type": "integer"}}, [1, 2, 3]),
        ({"contains": {"const": 1}}, [3, 2, 1]),
        ({"unevaluatedItems": {"type": "integer"}}, [1, 2, 3]),
    ],
)
def test_work_grows_with_the_answer_and_not_with_its_square(schema: Any, value: list[Any]) -> None:
    """Counted in steps."""
    few, many = ([[each, number] for number in range(n) for each in value] for n in (100, 200))
    if "items" in json.dumps(schema) or "contains" in schema:
        few, many = value * 100, value * 200
    assert 1.5 * work_of(few, schema) < work_of(many, schema) < 2.5 * work_of(few, schema)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (
            {
                "$defs": {
                    "0": {"type": "integer"},
                    **{str(n): {"anyOf": [{"$ref": f"#/$defs/{n - 1}"}] * 2} for n in range(1, 40)},
                },
                "$ref": "#/$defs/39",
            },
            "no integer",
        ),
        ({"items": {"items": {"enum": [*([n] for n in range(100)), 0]}}}, [[0] * 50] * 50),
        ({"items": {"pattern": "^(a|b){1,500}c$"}}, ["ab" * 100] * 100),
        ({"anyOf": [{"type": "string"}] * 100}, ["a long word" * 10_000]),
        ({"patternProperties": {f"^{n}$": {} for n in range(100)}}, {f"k{n}": 1 for n in range(1000)}),
    ],
    ids=["branches", "enum", "pattern", "messages", "patternProperties"],
)
def test_an_answer_that_takes_too_much_work_is_refused(
    schema: Any, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is that costs: steps, expressions, messages."""
    check_contract(schema)
    monkeypatch.setattr("cgworker.durable.contract.check_contract", lambda _: None)
    monkeypatch.setattr(schema_validation, "MAX_WORK", 5_000)
    *_, last = faults_of(value, schema)
    assert (last["type"], "5,000 steps" in last["msg"]) == ("unchecked", True)


def test_a_schema_that_takes_too_much_work_is_refused_when_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its own size, or by that of its expressions."""
    monkeypatch.setattr(schema_validation, "MAX_WORK", 5_000)
    for schema in (
        {"properties": {f"p{n}": {"type": "string"} for n in range(500)}},
        {"allOf": [{"pattern": f"(a|b){{{n},{n + 500}}}"} for n in range(100)]},
    ):
        with pytest.raises(UsageError, match="5,000 steps"):
            check_contract(schema)


def test_work_that_is_spent_raises_at_once() -> None:
    """However little of the value has been looked at."""
    with pytest.raises(TooMuchWork):
        list(errors_of(list(range(1000)), {"items": {"type": "integer"}}, Work(left=10)))
