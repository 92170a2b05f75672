"""What an answer has to look like: a JSON Schema, and what in a value does not fit it.

Whatever is wrong with a schema is found when it is asked with, and is its handler's fault. Whatever goes
wrong in checking an answer after that is a fault of the answer. Neither takes time without bound, and what
a schema refers to is never fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cgworker.errors import UsageError
from cgworker.wire.converter import dumps

_MOST_FAULTS = 20
_MOST_CHARACTERS = 300  # a message has the value in it, which may be of any size


def check_contract(schema: Mapping[str, Any]) -> None:
    """Refuse what is no JSON Schema, and one that no answer could be checked against.

    Args:
        schema: of JSON Schema 2020-12, whatever dialect it names.

    Raises:
        UsageError: the handler's fault. The schema is not valid, a pattern in it takes time without bound
            (lookarounds, backreferences), it refers to what is not in it or to itself without end, or it
            takes too much work to check.
    """
    from cgworker.durable.schema_references import check_parts
    from cgworker.durable.schema_validation import (
        Work,  # they import jsonschema, which only turns that ask need
    )

    try:
        check_parts(schema, Work())
    except Exception as broken:  # odd references raise what they like
        raise UsageError(f"the schema of an answer cannot be used: {_words_of(broken)}") from broken


def faults_of(value: Any, schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What in the value does not fit, as faults for `InvalidRequest`; none if it fits.

    What cannot be checked does not fit: its last fault is of type "unchecked" and says why, for instance
    because the value is nested too deeply or takes too much work.

    Args:
        value: the answer, any JSON value.
        schema: what it has to fit; see `check_contract`.

    Raises:
        UsageError: the schema cannot be used: the fault of the handler that asked.
    """
    from cgworker.durable.schema_validation import Work, errors_of

    check_contract(schema)
    faults: list[dict[str, Any]] = []
    try:
        dumps(value)  # what is no JSON would puzzle jsonschema
        for error in errors_of(value, schema, Work()):
            faults.append(_fault(str(error.validator or "false_schema"), error.message, *error.absolute_path))
            if len(faults) == _MOST_FAULTS:
                break
    except Exception as broken:  # jsonschema lets pass what arithmetic, text and recursion raise
        faults.append(fault_of_trouble(broken))
    return faults


def fault_of_trouble(broken: Exception) -> dict[str, Any]:
    """The fault of an answer that raises something where it is checked or read."""
    return _fault("unchecked", f"cannot be checked: {_words_of(broken)}")


def _fault(type: str, message: str, *path: str | int) -> dict[str, Any]:
    return {"type": type, "loc": ["answer", *path], "msg": message[:_MOST_CHARACTERS]}


def _words_of(broken: Exception) -> str:
    if isinstance(broken, RecursionError):
        return "it is nested too deeply"
    return str(broken)[:_MOST_CHARACTERS] or type(broken).__name__
