"""A parsed command line, and how it is run."""

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
from cgworker.cli.progress import SILENT_SECONDS, progress
from cgworker.printable import printable


@frozen
class Call:
    """A command and its flags. A call can be pickled, because the command is a function of a module.

    Attributes:
        work: the command's function.
        flags: its arguments by name.
        as_json: whether to print the JSON envelope even on a terminal.
    """

    work: Callable[..., Any]
    flags: Mapping[str, Any]
    as_json: bool

    def perform(self) -> int:
        """Run the command, print its result, and return the exit status.

        Raises:
            Exception: what the command raises.
        """
        result = self._result()
        write_result(result, as_json=self.as_json)
        return int(getattr(result, "exit_status", 0))

    def _result(self) -> Any:
        if not inspect.iscoroutinefunction(self.work):
            return self.work(**self.flags)  # a worker shows its own line
        with progress("waiting for the kernel", after_seconds=SILENT_SECONDS):
            return do(self.work, self.flags)


def do(work: Callable[..., Any], flags: Mapping[str, Any], *, use_uvloop: bool = False) -> Any:
    """Call a function or run a coroutine function to its end.

    Args:
        work: the function.
        flags: its arguments by name.
        use_uvloop: run on uvloop. It serves requests faster, but its start takes longer than most commands.
    """
    if not inspect.iscoroutinefunction(work):
        return work(**flags)
    import anyio  # a version or a help text does not need it

    return anyio.run(partial(work, **flags), backend_options={"use_uvloop": use_uvloop})


def fail(raised: Exception, write: Callable[[Problem], None]) -> int:
    """Print why a command failed, and return the exit status.

    Args:
        raised: what the command raised; a fault of cgworker itself is printed with its traceback.
        write: prints the problem.
    """
    problem = problem_of(raised)
    if problem.is_ours:
        sys.stderr.write(printable("".join(traceback.format_exception(raised)), keep="\t\n"))
    write(problem)
    return 1
