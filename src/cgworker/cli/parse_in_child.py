"""Parse a command line in a child process, so that the parent never loads the parser.

typer reads its parameters with pydantic: 11 MiB that a worker would hold for weeks, for some milliseconds of
use. The child parses the line and sends the call to its parent through a pipe, because flags may be secrets.
If the child prints a help text or refuses the line, the parent exits with the child's status.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from cgworker.cli.call import Call


def parse_in_child(read: Callable[[], Call | int]) -> Call | int:
    """Run `read` in a child process, and return its result.

    Call it before any thread or event loop exists.

    Args:
        read: parses the line; an exception in it is printed on stderr, and its status is 1.

    Returns:
        The call; an exit status if the line is done, as for --help, or refused.
    """
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        _read_for_the_parent(read, theirs)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        sent = pipe.read()
    status = _exit_status_of(child)
    return pickle.loads(sent) if sent and status == 0 else status


def _read_for_the_parent(read: Callable[[], Call | int], pipe: int) -> NoReturn:
    """Send the result to the parent, and exit. The parent runs atexit handlers and deferred signals."""
    status = 1
    try:
        asked = read()
        if isinstance(asked, Call):
            with os.fdopen(pipe, "wb") as parent:
                pickle.dump(asked, parent)
            status = 0
        else:
            status = asked
    except Exception:
        traceback.print_exc()  # the parent gets only the status
    finally:
        _leave(status)


def _leave(status: int) -> NoReturn:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _exit_status_of(child: int) -> int:
    """Wait for the child, and return its status as a shell shows it: 128 + N for the signal N."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        sys.stderr.write(f"cg: {signal.Signals(-code).name} ended the process that read the command line\n")
    return code if code >= 0 else 128 - code
