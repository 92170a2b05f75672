"""Print the answer of a command: one line of JSON for programs, or a view for people (command line 1).

Without a terminal, or with --json, stdout gets exactly one compact line: {"ok":true,"result":...} or
{"ok":false,"error":{"code","message","status"}}. Advice about an error goes to stderr, since the envelope has
no field for it.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Any

from cgworker.cli.problems import Problem
from cgworker.printable import printable, printable_json


def write_result(result: Any, *, as_json: bool) -> None:
    """Print the result of a command.

    Args:
        result: what the command returned.
        as_json: print the envelope even on a terminal.
    """
    if as_json or not sys.stdout.isatty():
        write_line({"ok": True, "result": result})
    else:
        from cgworker.cli.views import show

        show(result)


def write_problem(problem: Problem, *, as_json: bool) -> None:
    """Print why a command failed, and what to do about it.

    Args:
        problem: the failure.
        as_json: print the envelope even on a terminal.
    """
    if as_json or not sys.stdout.isatty():
        error = {"code": problem.code, "message": problem.message, "status": problem.status}
        write_line({"ok": False, "error": error})
        if problem.advice:
            say(f"hint: {problem.advice}")
    else:
        from cgworker.cli.views import show_problem

        show_problem(problem)


def write_failure(problem: Problem) -> None:
    """Print on stderr why a command without an envelope failed, and what to do about it: a line each."""
    if sys.stderr.isatty():
        from cgworker.cli.views import show_problem

        show_problem(problem)
        return
    say(f"{problem.code}: {problem.message}")
    if problem.advice:
        say(f"hint: {problem.advice}")


def write_line(value: Any) -> None:
    """Print a value as one line of JSON. On a terminal, control characters are escaped."""
    line = _line_of(value)
    if sys.stdout.isatty():
        line = printable_json(line.decode()).encode()
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def _line_of(value: Any) -> bytes:
    from cgworker.wire.converter import dumps, unstructure

    try:
        return dumps(value)
    except TypeError:  # a file name need not be UTF-8; escapes in ASCII can hold any
        return json.dumps(unstructure(value), separators=(",", ":")).encode()


def say(text: str) -> None:
    """Print on stderr what is not the answer: a hint, a warning, a failure or a server's address.

    If stderr takes nothing, as when its disk is full, the command goes on without.
    """
    with suppress(OSError):
        print(printable(text, keep="\t\n"), file=sys.stderr, flush=True)  # noqa: T201 - the command line prints


def hint_cut(count: int, limit: int, has_more: bool, *, flag: str, after: int) -> None:
    """Print on stderr that the kernel cut a page before the limit (difference 11), and how to read on.

    Args:
        count: the number of items on the page.
        limit: the number of items that were requested; a full page needs no hint.
        has_more: whether the kernel has further items.
        flag: the option that says where a page begins.
        after: where the next page begins.
    """
    if has_more and count < limit:
        say(f"hint: the kernel cut the page after {count} of at most {limit}; read on with {flag} {after}")
