"""Check a value against a JSON Schema with a bounded amount of work, and without Python's `re`.

jsonschema's validator is extended in four ways. Regular expressions run in RE2. Work is counted: one for
each schema that is applied to a value, more for expensive keywords and messages. `multipleOf` is exact. And a
schema is read as 2020-12 throughout: jsonschema itself switches to another validator class behind a reference
to a schema that names its dialect, and would lose these extensions there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from fractions import Fraction
from functools import cache, partial
from typing import Any

import attrs
from jsonschema import Draft202012Validator, ValidationError, validators
from referencing import Registry

from cgworker.durable.regex import compile_pattern

MAX_WORK = 200_000
"""The budget of one check, in units of work: one or two seconds of one processor."""

# The unit of cost is one schema applied to a value. One unit pays for so many characters of a message (or
# characters of a text times instructions of an expression), and for so many entries that a keyword lists.
_CHARACTERS = 1000
_ENTRIES = 16
_ERROR = 5  # the cost of making an error and keeping it
_LISTS = frozenset({"enum", "const", "dependentRequired"})  # keywords that read all of their own value

Errors = Iterator[ValidationError]


class TooMuchWork(Exception):
    """The check costs more work than is allowed, because of the value, the schema, or both."""


@attrs.define
class Work:
    """The remaining budget of one check, and the expressions that it has compiled."""

    left: int = attrs.field(factory=lambda: MAX_WORK)
    patterns: dict[str, Any] = attrs.field(factory=dict)

    def spend(self, amount: int) -> None:
        """Subtract an amount from the budget.

        Args:
            amount: the cost; 1 is the cost of applying one schema to a value.

        Raises:
            TooMuchWork: less than the amount is left.
        """
        self.left -= amount
        if self.left < 0:
            raise TooMuchWork(f"it takes more than {MAX_WORK:,} steps")

    def compiled(self, pattern: str) -> Any:
        """Return the compiled expression; compile it on first use.

        Args:
            pattern: a regular expression in JavaScript's syntax.

        Raises:
            PatternRefused: the pattern cannot be used.
            TooMuchWork: the expression costs more than is left.
        """
        if (found := self.patterns.get(pattern)) is None:
            self.patterns[pattern] = found = compile_pattern(pattern)
            self.spend(1 + found.programsize // _ENTRIES)
        return found

    def matches(self, pattern: str, text: str) -> bool:
        """Return True if the expression is found in the text.

        Args:
            pattern: a regular expression in JavaScript's syntax.
            text: the text to search.

        Raises:
            PatternRefused: the pattern cannot be used.
            TooMuchWork: the search costs more than is left.
        """
        compiled = self.compiled(pattern)
        self.spend(len(text) * compiled.programsize // _CHARACTERS)
        return compiled.search(text) is not None


_work: ContextVar[Work] = ContextVar("work")


def errors_of(value: Any, schema: Any, work: Work) -> Errors:
    """Yield what is wrong with the value under the schema.

    Args:
        value: any JSON value.
        schema: the schema.
        work: the budget for the check.

    Raises:
        TooMuchWork: the check costs more work than is left.
        Exception: anything that jsonschema raises for odd schemas and values, such as RecursionError.
    """
    # An empty registry: nothing that a schema refers to is fetched.
    errors = _bounded()(schema, registry=Registry()).iter_errors(value)
    while True:
        token = _work.set(work)  # for each error: another check may run between two of them
        try:
            error = next(errors, None)
        finally:
            _work.reset(token)
        if error is None:
            return
        yield error


@cache
def _bounded() -> Any:
    """Return the extended validator class."""
    all_keywords = {**Draft202012Validator.VALIDATORS, **_OWN}
    counted = {name: partial(_counted, name, keyword) for name, keyword in all_keywords.items()}
    extend: Any = validators.extend  # untyped in the stubs
    bounded = extend(Draft202012Validator, counted)
    bounded.evolve = _evolve
    return bounded


def _evolve(validator: Any, **changes: Any) -> Any:
    """Return the same validator for another schema, whatever dialect the schema names."""
    _work.get().spend(1)
    return attrs.evolve(validator, **changes)


def _counted(
    name: str, keyword: Callable[..., Errors | None], validator: Any, value: Any, instance: Any, schema: Any
) -> Errors:
    """Run a keyword, and charge the work budget for the entries it lists and the messages it writes."""
    work = _work.get()
    if isinstance(value, list | dict):
        work.spend((_size(value) if name in _LISTS else len(value)) // _ENTRIES)
    for error in keyword(validator, value, instance, schema) or ():
        work.spend(_ERROR + len(error.message) // _CHARACTERS)
        yield error


def _size(value: Any) -> int:
    """Return how many values a JSON value consists of."""
    if isinstance(value, dict):
        return 1 + sum(map(_size, value.values()))
    return 1 + sum(map(_size, value)) if isinstance(value, list) else 1


# ---------------------------------------------------------------- keywords unbounded or inexact in jsonschema


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Errors:  # noqa: ARG001
    if validator.is_type(instance, "string") and not _work.get().matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Mapping[str, Any], instance: Any, _: Any) -> Errors:
    if not validator.is_type(instance, "object"):
        return
    for pattern, schema in patterns.items():
        for name, value in instance.items():
            if _matches_any([pattern], name):
                yield from validator.descend(value, schema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Errors:
    if not validator.is_type(instance, "object"):
        return
    named = schema.get("properties", {})
    patterns = schema.get("patternProperties", ())
    extra = [name for name in instance if name not in named and not _matches_any(patterns, name)]
    if allowed is not False:
        for name in extra:
            yield from validator.descend(instance[name], allowed, path=name)
    elif extra:
        yield _unexpected("Additional properties", extra)


def _unevaluated_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Errors:  # noqa: ARG001
    if not validator.is_type(instance, "object"):
        return
    seen = _evaluated(validator, instance, schema)
    if wrong := [name for name in instance if name not in seen]:
        yield _unexpected("Unevaluated properties", wrong)


def _unevaluated_items(validator: Any, allowed: Any, instance: Any, schema: Any) -> Errors:  # noqa: ARG001
    if not validator.is_type(instance, "array"):
        return
    seen = _evaluated(validator, instance, schema)
    if wrong := [value for index, value in enumerate(instance) if index not in seen]:
        yield _unexpected("Unevaluated items", wrong)


def _unique_items(validator: Any, unique: Any, instance: Any, schema: Any) -> Errors:  # noqa: ARG001
    """Compare items by their canonical form: comparing each pair would take quadratic time."""
    if not unique or not validator.is_type(instance, "array"):
        return
    _work.get().spend(_size(instance))
    if len({json.dumps(_canonical(value), sort_keys=True) for value in instance}) < len(instance):
        yield ValidationError(f"{instance!r} has non-unique elements")


def _contains(validator: Any, contained: Any, instance: Any, schema: Any) -> Errors:
    if validator.is_type(instance, "array"):
        _work.get().spend(len(instance))
        yield from Draft202012Validator.VALIDATORS["contains"](validator, contained, instance, schema) or ()


def _multiple_of(validator: Any, step: Any, instance: Any, schema: Any) -> Errors:  # noqa: ARG001
    """Divide the decimal numbers as written: in binary fractions, 19.99 is not a multiple of 0.01."""
    if validator.is_type(instance, "number") and _as_written(instance) % _as_written(step):
        yield ValidationError(f"{instance!r} is not a multiple of {step!r}")


_OWN: dict[str, Callable[..., Errors]] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "unevaluatedProperties": _unevaluated_properties,
    "unevaluatedItems": _unevaluated_items,
    "uniqueItems": _unique_items,
    "contains": _contains,
    "multipleOf": _multiple_of,
}


def _matches_any(patterns: Any, text: str) -> bool:
    work = _work.get()
    work.spend(1)
    return any(work.matches(pattern, text) for pattern in patterns)


def _fits(errors: Errors) -> bool:
    return next(errors, None) is None


def _unexpected(what: str, names: list[Any]) -> ValidationError:
    listed = ", ".join(map(repr, names))
    return ValidationError(
        f"{what} are not allowed ({listed} {'was' if len(names) == 1 else 'were'} unexpected)"
    )


def _as_written(number: float) -> Fraction:
    return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)


def _canonical(value: Any) -> Any:
    """Return the value with one spelling for each number: 1 and 1.0 are equal in JSON Schema."""
    if isinstance(value, dict):
        return {name: _canonical(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_canonical(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


# ---------------------------------------------------------------- what other keywords have evaluated


def _evaluated(validator: Any, instance: Any, schema: Any) -> set[Any]:
    """Return the properties or indexes that the schema's keywords, and those of `_in_place`, apply to."""
    if not isinstance(schema, Mapping):
        return set()
    own = _own_items if isinstance(instance, list) else _own_properties
    found = set(own(validator, instance, schema))
    for inner in _in_place(validator, instance, schema):
        if inner.is_valid(instance):
            found |= _evaluated(inner, instance, inner.schema)
    return found


def _own_properties(validator: Any, instance: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    yield from schema.get("properties", {}).keys() & instance.keys()
    patterns = schema.get("patternProperties", ())
    yield from (name for name in instance if _matches_any(patterns, name))
    for keyword in ("additionalProperties", "unevaluatedProperties"):
        if keyword in schema:
            allowed = schema[keyword]
            yield from (name for name, value in instance.items() if _fits(validator.descend(value, allowed)))


def _own_items(validator: Any, instance: list[Any], schema: Mapping[str, Any]) -> Iterator[int]:
    if "items" in schema:
        yield from range(len(instance))
    yield from range(len(schema.get("prefixItems", ())))
    for keyword in ("contains", "unevaluatedItems"):
        if keyword in schema:
            allowed = schema[keyword]
            yield from (
                index for index, value in enumerate(instance) if _fits(validator.descend(value, allowed))
            )


def _in_place(validator: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    """Yield validators for the subschemas that apply to the same value."""
    for keyword in ("$ref", "$dynamicRef"):
        if keyword in schema:
            resolved = validator._resolver.lookup(schema[keyword])  # noqa: SLF001  # as jsonschema's own keywords do
            yield validator.evolve(schema=resolved.contents, _resolver=resolved.resolver)
    for keyword in ("allOf", "anyOf", "oneOf"):
        yield from (validator.evolve(schema=inner) for inner in schema.get(keyword, ()))
    for name, inner in schema.get("dependentSchemas", {}).items():
        if isinstance(instance, Mapping) and name in instance:
            yield validator.evolve(schema=inner)
    if "if" in schema:
        condition = validator.evolve(schema=schema["if"])
        yield condition
        branch = "then" if condition.is_valid(instance) else "else"
        if branch in schema:
            yield validator.evolve(schema=schema[branch])
