"""Make error reports and logged exceptions short, and free of secrets."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable
from typing import Any

from cgworker.handlers.environment import mask_for
from cgworker.outcome import Failed

_MAX_CHARACTERS = 2000
_MAX_SCANNED = 100_000
_MAX_WORD_CHARACTERS = 100

# Patterns of secrets that are not known by value: bearer tokens, keys, passwords in URLs and settings.
_LOOKS_SECRET = re.compile(
    r"cg(?:ac|join)_[\w.-]+"
    r"|(?<=://)[^\s/:@]+:[^\s/@]+(?=@)"
    r"|(?i:bearer)\s+[\w.~+/=-]{8,}"
    r"|\bsk-[\w-]{16,}|\bgh[pousr]_\w{20,}|\bAKIA[0-9A-Z]{16}\b|\bxox[abprs]-[\w-]{10,}"
    r"|(?<=[=:\s\"'])eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*"
    r"|(?i:(?<=password=)|(?<=passwd=)|(?<=secret=)|(?<=token=)|(?<=api_key=)|(?<=apikey=))[^\s&\"']+"
)


class SecretInText(Exception):
    """Replaces an exception whose traceback holds a secret; its text is that traceback, masked."""


class TracebackUnfit(Exception):
    """Replaces an exception whose traceback is too long to be logged, or cannot be formatted."""


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text with secrets masked, cut to 2,000 characters that a record can hold.

    Args:
        text: the text.
        secrets: known secrets; text that looks like a secret is masked as well.
    """
    known = tuple(secrets)
    masked = _LOOKS_SECRET.sub("***", mask_for(known)(as_storable(text[:_MAX_SCANNED])))
    if len(text) > _MAX_SCANNED:  # the cut may have left the beginning of a secret, which is not masked
        masked = masked[: -max(map(len, known), default=1)]
    is_whole = len(text) <= _MAX_SCANNED and len(masked) <= _MAX_CHARACTERS
    return masked if is_whole else masked[: _MAX_CHARACTERS - 1] + "…"


def as_storable(text: str) -> str:
    r"""Return a text that a record can hold: lone surrogates and NUL become `\udce9` and `\x00`."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def error_report(error: BaseException, secrets: Iterable[str]) -> dict[str, Any]:
    """Return the error report of an exception that a handler raised (difference 27).

    Args:
        error: the exception.
        secrets: known secrets, which are masked.
    """
    known = tuple(secrets)
    name = redact(str(type(error).__name__), known)
    return {"error": "handler_error", "type": name, "message": redact(_text_of(error), known)}


def _text_of(error: BaseException) -> str:
    """Return the text of an exception, even if its `__str__` is broken."""
    try:
        return "".join([str(error)])  # a plain str, also of a subclass with methods of its own
    except BaseException as unreadable:
        return f"(its text cannot be read: __str__ raised {type(unreadable).__name__})"


def failure_of(outcome: object) -> dict[str, Any]:
    """Return facts for the log: the failure's word and the command's exit status, if its report has them."""
    report = outcome.payload if isinstance(outcome, Failed) else None
    if not isinstance(report, dict):
        return {}
    word, status = report.get("error"), report.get("child_exit_code")
    return {
        "failure": as_storable("".join([word]))[:_MAX_WORD_CHARACTERS] if isinstance(word, str) else "",
        "exit_status": status if isinstance(status, int) else None,
    }


def loggable(error: BaseException, secrets: Iterable[str]) -> BaseException:
    """Return the exception in a form that logs and listeners may have.

    Args:
        error: the exception.
        secrets: known secrets.

    Returns:
        The exception itself; a `SecretInText` if a secret is in its traceback; a `TracebackUnfit` if the
        traceback is too long or cannot be formatted.
    """
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException as unwritable:
        return TracebackUnfit(
            f"{type(error).__name__}: its traceback cannot be written ({unwritable!r:.200})"
        )
    if len(text) > _MAX_SCANNED:
        report = error_report(error, secrets)
        return TracebackUnfit(
            f"{report['type']}, with a traceback of {len(text)} characters: {report['message']}"
        )
    masked = mask_for(secrets)(text)
    return error if masked == text else SecretInText(masked)
