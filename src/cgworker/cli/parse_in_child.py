"""A command line that is read in a child, which ends with all that it loaded for that.

typer reads its parameters with pydantic: 11 MiB that a worker would hold for weeks, for some milliseconds of
use. So the child reads the line, and hands its parent the call through a pipe, since flags may be secrets.
Whatever else it does, as to print a help text or to refuse the line, is all that comes of the process.
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
    """What a command line asks for, as `read` tells it in a child; an exit status if that is all.

    Call it before any thread or event loop exists.

    Args:
        read: what it raises is a status of 1, and told on stderr.
    """
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        _read_for_the_parent(read, theirs)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        handed = pipe.read()
    status = _exit_status_of(child)
    return pickle.loads(handed) if handed and status == 0 else status


def _read_for_the_parent(read: Callable[[], Call | int], pipe: int) -> NoReturn:
    """What a process does at its end, such as to heed the signals that it held, is the parent's to do."""
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
        traceback.print_exc()  # there is nobody else to tell it
    finally:
        _leave(status)


def _leave(status: int) -> NoReturn:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _exit_status_of(child: int) -> int:
    """As a shell tells it."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        sys.stderr.write(f"cg: {signal.Signals(-code).name} ended the process that read the command line\n")
    return code if code >= 0 else 128 - code
