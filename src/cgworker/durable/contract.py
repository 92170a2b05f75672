"""Check an answer against the JSON Schema that a handler asked with.

A broken schema is found when the handler asks, and is the handler's fault. Anything that fails later, while
an answer is checked, counts as a fault of the answer. Both checks take bounded time, and references of a
schema are never fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cgworker.errors import UsageError
from cgworker.wire.converter import dumps

_MAX_FAULTS = 20
_MAX_CHARACTERS = 300  # of a message, which quotes the value


def check_contract(schema: Mapping[str, Any]) -> None:
    """Check that a schema is valid and that answers can be checked against it in bounded time.

    Args:
        schema: a JSON Schema; it is read as version 2020-12, whatever dialect it names.

    Raises:
        UsageError: the handler's fault. The schema is not valid, has a pattern that needs unbounded time
            (lookarounds, backreferences), has a reference that leads outside of it or round in circles, or
            takes too much work to check.
    """
    from cgworker.durable.schema_references import check_parts
    from cgworker.durable.schema_validation import (
        Work,  # they import jsonschema, which only turns that ask need
    )

    try:
        check_parts(schema, Work())
    except Exception as broken:  # a malformed reference may raise any exception
        raise UsageError(f"the schema of an answer cannot be used: {_reason_of(broken)}") from broken


def faults_of(value: Any, schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is wrong with a value under a schema, as faults for `InvalidRequest`; empty if it is valid.

    A value that cannot be checked is not valid: the last fault then has type "unchecked" and gives the
    reason, for instance that the value is nested too deeply or takes too much work.

    Args:
        value: the answer, any JSON value.
        schema: the schema that the answer must match; see `check_contract`.

    Returns:
        At most 20 faults, each with `type`, `loc` (which begins with "answer") and `msg`.

    Raises:
        UsageError: the schema cannot be used, which is the fault of the handler that asked.
    """
    from cgworker.durable.schema_validation import Work, errors_of

    check_contract(schema)
    faults: list[dict[str, Any]] = []
    try:
        dumps(value)  # jsonschema does not expect values that are not JSON
        for error in errors_of(value, schema, Work()):
            faults.append(_fault(str(error.validator or "false_schema"), error.message, *error.absolute_path))
            if len(faults) == _MAX_FAULTS:
                break
    except Exception as broken:  # jsonschema does not catch errors of arithmetic, text and recursion
        faults.append(fault_of_trouble(broken))
    return faults


def fault_of_trouble(broken: Exception) -> dict[str, Any]:
    """Return the fault for an answer that raised an exception while it was checked or read.

    Args:
        broken: the exception.
    """
    return _fault("unchecked", f"cannot be checked: {_reason_of(broken)}")


def _fault(type: str, message: str, *path: str | int) -> dict[str, Any]:
    return {"type": type, "loc": ["answer", *path], "msg": message[:_MAX_CHARACTERS]}


def _reason_of(broken: Exception) -> str:
    if isinstance(broken, RecursionError):
        return "it is nested too deeply"
    return str(broken)[:_MAX_CHARACTERS] or type(broken).__name__
