"""A command with its flags: what a command line comes to once it is read, and how that is done."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from attrs import frozen

from cgworker.cli.envelope import write_result
from cgworker.cli.problems import Problem, problem_of
from cgworker.printable import printable


@frozen
class Call:
    """A command, called with its flags; it can be pickled, if the command can be imported.

    Attributes:
        work: the function that is the command.
        flags: its arguments.
        as_json: whether the result is for a program, also on a terminal.
    """

    work: Callable[..., Any]
    flags: Mapping[str, Any]
    as_json: bool

    def perform(self) -> int:
        """Do it, and print what it returns; the exit status."""
        result = do(self.work, self.flags)
        write_result(result, as_json=self.as_json)
        return int(getattr(result, "exit_status", 0))


def do(work: Callable[..., Any], flags: Mapping[str, Any], *, use_uvloop: bool = False) -> Any:
    """Call the function; uvloop serves requests faster, but takes longer to start than most commands run."""
    if not inspect.iscoroutinefunction(work):
        return work(**flags)
    import anyio  # not needed to print a version or a help text

    return anyio.run(partial(work, **flags), backend_options={"use_uvloop": use_uvloop})


def fail(raised: Exception, write: Callable[[Problem], None]) -> int:
    """Tell why a command failed, with a traceback if the fault is our own; the exit status."""
    problem = problem_of(raised)
    if problem.is_ours:
        sys.stderr.write(printable("".join(traceback.format_exception(raised)), keep="\t\n"))
    write(problem)
    return 1
