"""What an answer has to look like: a JSON Schema, and what in a value does not fit it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cgworker.errors import UsageError

_MOST_FAULTS = 20


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
    """What in the value does not fit, as faults for `InvalidRequest`; none if it fits."""
    from jsonschema import Draft202012Validator
    from referencing import Registry

    # With a registry of its own it fetches nothing that a schema refers to.
    validator = Draft202012Validator(schema, registry=Registry())
    faults = []
    for error in validator.iter_errors(value):
        faults.append(
            {"type": error.validator, "loc": ["answer", *error.absolute_path], "msg": error.message}
        )
        if len(faults) == _MOST_FAULTS:
            break
    return faults
