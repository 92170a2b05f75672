"""What a failed turn tells the public: enough to act on, nothing that is secret, and not too much of it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable
from typing import Any

from cgworker.handlers.environment import mask_for

_MOST_CHARACTERS = 2000

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


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without these secrets or what looks like one, cut to 2,000 characters that can be stored."""
    masked = _LOOKS_SECRET.sub("***", mask_for(secrets)(storable(text)))
    return masked if len(masked) <= _MOST_CHARACTERS else masked[: _MOST_CHARACTERS - 1] + "…"


def storable(text: str) -> str:
    r"""The text as a record can hold it: what cannot be written in UTF-8, and NUL, as `\udce9` and `\x00`."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def report_of(error: BaseException, secrets: Iterable[str]) -> dict[str, Any]:
    """The error report of an exception that a handler raised (decision 27)."""
    return {"error": "handler_error", "type": type(error).__name__, "message": redact(str(error), secrets)}


def tellable(error: BaseException, secrets: Iterable[str]) -> BaseException:
    """The exception as logs and listeners may have it: itself, unless one of these secrets is in its text."""
    text = "".join(traceback.format_exception(error))
    masked = mask_for(secrets)(text)
    return error if masked == text else SecretInText(masked)
