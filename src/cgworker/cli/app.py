"""The program `cg`: run a command line, and end with an exit status."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, NoReturn, TypeVar

from cgworker import signals

if TYPE_CHECKING:
    from cgworker.cli.call import Call

_WORKERS = (["worker", "once"], ["worker", "loop"], ["worker", "claim", "run"])

# Commands that run for weeks, and their modules, which do not load typer.
_LONG_RUNNING = {
    ("worker", "loop"): "cgworker.cli.commands.worker.loop",
    ("worker", "run"): "cgworker.cli.commands.worker.run",
}

# Commands whose --json takes a value.
_JSON_IS_A_VALUE = {("turn", "answer"), ("turn", "tell")}

Result = TypeVar("Result")


def main() -> NoReturn:
    """The entry point of `cg` and `python -m cgworker`."""
    repair_std_streams()
    _leave_out_httpxs_command_line()
    exit_status = run(sys.argv[1:], is_process=True)
    if _is_long_running(sys.argv[1:]):
        from cgworker.worker.process.exit import set_exit_status

        set_exit_status(exit_status)
    sys.exit(exit_status)


def run(argv: Sequence[str], *, is_process: bool = False) -> int:
    """Run one command line.

    Args:
        argv: the words after `cg`.
        is_process: whether the process does nothing else, so that it may fork to parse the line.

    Returns:
        The exit status: 0 for success, 1 for an error, or what the command says (command line 1).
    """
    with signals.deferred_signals() if _is_worker(argv) else nullcontext():
        try:
            return _or_unwritable(partial(_run, argv, is_process=is_process))
        except KeyboardInterrupt:
            return 130


def _run(argv: Sequence[str], *, is_process: bool) -> int:
    if list(argv) == ["--version"]:
        print(f"cg {version('cgworker')}")  # noqa: T201 - the command line prints
        return 0
    asked = _read_in_child(argv) if is_process and _is_long_running(argv) else _read(argv)
    return asked if isinstance(asked, int) else _or_print_failure(argv, asked.perform)


def _read(argv: Sequence[str]) -> Call | int:
    """Parse the line; return an exit status if it is done already or wrong."""
    from cgworker.cli.root import read  # loads typer, which --version does not need

    return _or_print_failure(argv, partial(read, argv))


def _read_in_child(argv: Sequence[str]) -> Call | int:
    from cgworker.cli.parse_in_child import parse_in_child

    import_module(_LONG_RUNNING[argv[0], argv[1]])  # the child then inherits it
    return parse_in_child(partial(_or_unwritable, partial(_read, argv)))


def _or_print_failure(argv: Sequence[str], act: Callable[[], Result]) -> Result | int:
    """Return the result of `act`; if it fails, print why, and return the exit status."""
    try:
        return act()
    except BrokenPipeError:
        raise  # nothing reads the output any more
    except Exception as raised:
        from cgworker.cli.call import fail
        from cgworker.cli.envelope import write_problem

        return fail(raised, partial(write_problem, as_json=_asks_for_json(argv)))


def _or_unwritable(act: Callable[[], Result]) -> Result | int:
    """Return the result of `act`; if stdout takes no output, not even why it failed, return 1."""
    try:
        result = act()
        sys.stdout.flush()
    except OSError as unwritable:
        if not isinstance(unwritable, BrokenPipeError):
            with suppress(OSError):
                sys.stderr.write(f"cg: stdout cannot be written: {unwritable.strerror}\n")
        _write_no_more()
        return 1
    return result


def _write_no_more() -> None:
    """Send output to /dev/null: nothing takes it any more, and Python would report that at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


def repair_std_streams() -> None:
    """Open closed standard streams, and undo an ignored SIGCHLD: supervisors may pass on either."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # the new file gets the lowest free descriptor, the stream's
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  # open until the process ends
    if hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _leave_out_httpxs_command_line() -> None:
    """Keep `import httpx` from loading its command line, with pygments and rich: 5 MiB a process."""
    sys.modules["httpx._main"] = None  # type: ignore[assignment]  # the import system then raises ImportError


def _is_worker(argv: Sequence[str]) -> bool:
    """Whether the command is a worker, for which signals are deferred from the start."""
    return any(list(argv[: len(words)]) == words for words in _WORKERS)


def _is_long_running(argv: Sequence[str]) -> bool:
    """Whether a child should parse the line, because the command runs for weeks; Windows cannot fork."""
    return hasattr(os, "fork") and tuple(argv[:2]) in _LONG_RUNNING


def _asks_for_json(argv: Sequence[str]) -> bool:
    """Whether --json is a flag of cg: words after `--` or --command belong to another program."""
    if tuple(argv[:2]) in _JSON_IS_A_VALUE:
        return False
    for word in argv:
        if word in ("--", "--command"):
            return False
        if word == "--json":
            return True
    return False
