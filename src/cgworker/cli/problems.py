"""Describe exceptions for the envelope: code, message and status (command line 1), and advice."""

from __future__ import annotations

import errno
import json
import os

from attrs import frozen

from cgworker.cli.hints import advice_for
from cgworker.errors import CommonGroundError, InvalidRequest, KernelOverloaded, KernelRefused


@frozen
class Problem:
    """Why a command failed.

    Attributes:
        code: a stable word for programs.
        message: what happened, for people.
        status: an HTTP status, or 2 for a wrong command line.
        advice: what to do about it; None if there is nothing to add.
        is_ours: whether it is a fault of cgworker itself, for which the traceback is printed.
    """

    code: str
    message: str
    status: int
    advice: str | None = None
    is_ours: bool = False


def problem_of(raised: BaseException) -> Problem:
    """Return the problem that an exception is; an unknown exception is a fault of cgworker."""
    raised = _only_one_of(raised)
    code, message, status = _describe(raised)
    return Problem(code, message, status, advice_for(raised, code), is_ours=code == "internal_error")


def _only_one_of(raised: BaseException) -> BaseException:
    """Return the exception inside groups of one: task groups wrap the exception that ends them."""
    while isinstance(raised, BaseExceptionGroup) and len(raised.exceptions) == 1:
        raised = raised.exceptions[0]
    return raised


def _describe(raised: BaseException) -> tuple[str, str, int]:
    if isinstance(raised, CommonGroundError):
        return _describe_ours(raised)
    if isinstance(raised, ModuleNotFoundError) and not (raised.name or "").startswith("cgworker"):
        return "missing_extra", f"No module named {raised.name!r}", 2
    if isinstance(raised, OSError):
        return _describe_os_error(raised)
    if isinstance(raised, json.JSONDecodeError):
        return "invalid_json", str(raised), 422
    if isinstance(raised, ValueError):
        return "invalid_input", str(raised), 422
    if isinstance(raised, RecursionError):  # only values of JSON recurse here
        return "invalid_input", "JSON is nested too deeply", 422
    return "internal_error", f"{type(raised).__name__}: {raised}", 500


def _describe_ours(raised: CommonGroundError) -> tuple[str, str, int]:
    if isinstance(raised, InvalidRequest) and raised.answer is not None:
        return raised.code, raised.answer, raised.status  # the answer as it came, as other clients show it
    if isinstance(raised, KernelOverloaded) and raised.status == 408:
        return "timeout", raised.message, 408
    return raised.code, raised.message, raised.status


def _describe_os_error(raised: OSError) -> tuple[str, str, int]:
    if isinstance(raised, FileNotFoundError):
        return "file_not_found", str(raised), 404
    if isinstance(raised, PermissionError) or raised.errno == errno.EROFS:
        return "permission_denied", str(raised), 403
    return "io_error", str(raised) or os.strerror(raised.errno or 0), 500


def reset_code(raised: KernelRefused, code: str) -> KernelRefused:
    """Give a refusal another code, unless the server gave it one (command line 1).

    Args:
        raised: the refusal.
        code: the code.

    Returns:
        The refusal with the code, or `raised` itself.
    """
    if raised.answer is None:
        return raised  # the client raised it, without an answer
    try:
        answer = json.loads(raised.answer)
    except ValueError:
        answer = None
    if isinstance(answer, dict) and isinstance(answer.get("code"), str):
        return raised
    return KernelRefused(raised.answer or raised.message, code=code, status=raised.status)
