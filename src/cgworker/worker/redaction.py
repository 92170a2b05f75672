"""What a failed turn tells the public: enough to act on, nothing that is secret, and not too much of it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable
from typing import Any

from cgworker.handlers.environment import mask_for
from cgworker.outcome import Failed

_MAX_CHARACTERS = 2000
_MAX_LOOKED_AT = 100_000
_MAX_WORD_CHARACTERS = 100

# What secrets look like, for those that are not known: bearer tokens, keys, passwords in URLs and settings.
_LOOKS_SECRET = re.compile(
    r"cg(?:ac|join)_[\w.-]+"
    r"|(?<=://)[^\s/:@]+:[^\s/@]+(?=@)"
    r"|(?i:bearer)\s+[\w.~+/=-]{8,}"
    r"|\bsk-[\w-]{16,}|\bgh[pousr]_\w{20,}|\bAKIA[0-9A-Z]{16}\b|\bxox[abprs]-[\w-]{10,}"
    r"|(?<=[=:\s\"'])eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*"
    r"|(?i:(?<=password=)|(?<=passwd=)|(?<=secret=)|(?<=token=)|(?<=api_key=)|(?<=apikey=))[^\s&\"']+"
)


class SecretInText(Exception):
    """Stands for an exception whose text, or that of its causes, held a secret; has its traceback, masked."""


class TracebackUnfit(Exception):
    """Stands for an exception whose traceback is too long to be logged, or cannot be written at all."""


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without these secrets or what looks like one, cut to 2,000 characters that can be stored."""
    known = tuple(secrets)
    masked = _LOOKS_SECRET.sub("***", mask_for(known)(as_storable(text[:_MAX_LOOKED_AT])))
    if len(text) > _MAX_LOOKED_AT:  # the cut may have left the beginning of a secret, which no mask knows
        masked = masked[: -max(map(len, known), default=1)]
    is_whole = len(text) <= _MAX_LOOKED_AT and len(masked) <= _MAX_CHARACTERS
    return masked if is_whole else masked[: _MAX_CHARACTERS - 1] + "…"


def as_storable(text: str) -> str:
    r"""The text as a record can hold it: what cannot be written in UTF-8, and NUL, as `\udce9` and `\x00`."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def error_report(error: BaseException, secrets: Iterable[str]) -> dict[str, Any]:
    """The error report of an exception that a handler raised (difference 27)."""
    known = tuple(secrets)
    name = redact(str(type(error).__name__), known)
    return {"error": "handler_error", "type": name, "message": redact(_text_of(error), known)}


def _text_of(error: BaseException) -> str:
    """What an exception says, whatever its class has made of `__str__`."""
    try:
        return "".join([str(error)])  # a plain str, also of a subclass with methods of its own
    except BaseException as unreadable:
        return f"(its text cannot be read: __str__ raised {type(unreadable).__name__})"


def failure_of(outcome: object) -> dict[str, Any]:
    """The word for a failure and its command's exit status, as far as its report has them, for the log."""
    report = outcome.payload if isinstance(outcome, Failed) else None
    if not isinstance(report, dict):
        return {}
    word, status = report.get("error"), report.get("child_exit_code")
    return {
        "failure": as_storable("".join([word]))[:_MAX_WORD_CHARACTERS] if isinstance(word, str) else "",
        "exit_status": status if isinstance(status, int) else None,
    }


def loggable(error: BaseException, secrets: Iterable[str]) -> BaseException:
    """The exception as logs and listeners may have it.

    Itself; or a stand-in: with its traceback masked if one of these secrets is in that, or without if that
    is too long to be logged or cannot be written.
    """
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException as unwritable:
        return TracebackUnfit(
            f"{type(error).__name__}: its traceback cannot be written ({unwritable!r:.200})"
        )
    if len(text) > _MAX_LOOKED_AT:
        report = error_report(error, secrets)
        return TracebackUnfit(
            f"{report['type']}, with a traceback of {len(text)} characters: {report['message']}"
        )
    masked = mask_for(secrets)(text)
    return error if masked == text else SecretInText(masked)
