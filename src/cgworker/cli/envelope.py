"""What a command answers: one line of JSON, or something a person likes to read (command line 1).

Without a terminal, or with --json, stdout gets exactly one compact line: {"ok":true,"result":...} or
{"ok":false,"error":{"code","message","status"}}. What to do about an error goes to stderr, since the
envelope has no place for it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from cgworker.cli.problems import Problem
from cgworker.printable import printable, printable_json


def write_result(result: Any, *, as_json: bool) -> None:
    """Print what a command found or did."""
    if as_json or not sys.stdout.isatty():
        write_line({"ok": True, "result": result})
    else:
        from cgworker.cli.views import show

        show(result)


def write_problem(problem: Problem, *, as_json: bool) -> None:
    """Print why a command failed, and what to do about it."""
    if as_json or not sys.stdout.isatty():
        error = {"code": problem.code, "message": problem.message, "status": problem.status}
        write_line({"ok": False, "error": error})
        if problem.advice:
            say(f"hint: {problem.advice}")
    else:
        from cgworker.cli.views import show_problem

        show_problem(problem)


def write_failure(problem: Problem) -> None:
    """Say in one line why a command without an envelope failed, and in another what to do about it."""
    say(f"{problem.code}: {problem.message}")
    if problem.advice:
        say(f"hint: {problem.advice}")


def write_line(value: Any) -> None:
    """Print a value as one line of JSON: exactly as it is, but for what a terminal must not be given raw."""
    line = _line_of(value)
    if sys.stdout.isatty():
        line = printable_json(line.decode()).encode()
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def _line_of(value: Any) -> bytes:
    from cgworker.wire.converter import dumps, unstructure

    try:
        return dumps(value)
    except TypeError:  # the name of a file need not be UTF-8; in ASCII it can be told
        return json.dumps(unstructure(value), separators=(",", ":")).encode()


def say(text: str) -> None:
    """Tell on stderr what is not the answer: hints, warnings and failures."""
    print(printable(text, keep="\t\n"), file=sys.stderr)  # noqa: T201 - the command line prints


def tell_cut(count: int, limit: int, has_more: bool, *, flag: str, after: int) -> None:
    """Tell on stderr that the kernel cut a page before the limit (difference 11), and how to read on.

    Args:
        count: how many items the page has.
        limit: how many were asked for; a page of so many says by itself that there may be more.
        flag: the option that names where a page begins.
        after: where the next page begins.
    """
    if has_more and count < limit:
        say(f"hint: the kernel cut the page after {count} of at most {limit}; read on with {flag} {after}")
