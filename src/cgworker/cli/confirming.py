"""Ask on a terminal for confirmation, before something is removed for ever."""

from __future__ import annotations

import sys

from cgworker.errors import UsageError
from cgworker.printable import printable


def can_ask() -> bool:
    """Whether there is a terminal to ask on."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(question: str) -> None:
    """Ask on the terminal for confirmation.

    Raises:
        UsageError: the answer is not yes.
    """
    sys.stderr.write(f"{printable(question)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was removed: it was not confirmed; --yes does not ask")
