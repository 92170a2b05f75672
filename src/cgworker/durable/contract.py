"""What an answer has to look like: a JSON Schema, and what in a value does not fit it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from cgworker.errors import UsageError

if TYPE_CHECKING:
    from jsonschema import ValidationError

_MOST_FAULTS = 20
_MOST_CHARACTERS = 300  # a message has the value in it, which may be of any size


def check_contract(schema: Mapping[str, Any]) -> None:
    """Refuse what is no JSON Schema.

    Raises:
        UsageError: the handler's fault.
    """
    from jsonschema import Draft202012Validator, SchemaError  # only turns that ask need it

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as broken:
        raise UsageError(f"the schema of an answer is no JSON Schema: {broken.message}") from broken


def faults_of(value: Any, schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What in the value does not fit, as faults for `InvalidRequest`; none if it fits.

    Raises:
        UsageError: the schema cannot be used: the fault of the handler that asked.
    """
    from jsonschema import Draft202012Validator
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    check_contract(schema)
    # With a registry of its own it fetches nothing that a schema refers to.
    validator = Draft202012Validator(schema, registry=Registry())
    try:
        return [_fault_of(error) for error in islice(validator.iter_errors(value), _MOST_FAULTS)]
    except (Unresolvable, RecursionError) as broken:
        told = f"the schema of an answer refers to what is not in it, or to itself: {broken}"
        raise UsageError(told) from broken


def _fault_of(error: ValidationError) -> dict[str, Any]:
    message = error.message[:_MOST_CHARACTERS]
    return {"type": error.validator, "loc": ["answer", *error.absolute_path], "msg": message}
