"""`cg`: runs a command line and turns whatever happens into an exit status."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, NoReturn, TypeVar

from cgworker import signals

if TYPE_CHECKING:
    from cgworker.cli.call import Call

_WORKERS = (["worker", "once"], ["worker", "loop"], ["worker", "claim", "run"])

# Commands that run for weeks, and the modules they are in, which load no typer.
_STAYING = {
    ("worker", "loop"): "cgworker.cli.commands.worker.loop",
    ("worker", "run"): "cgworker.cli.commands.worker.run",
}

Told = TypeVar("Told")


def main() -> NoReturn:
    """The entry point of `cg` and `python -m cgworker`."""
    repair_std_streams()
    _leave_out_httpxs_command_line()
    exit_status = run(sys.argv[1:], is_process=True)
    if _stays(sys.argv[1:]):
        from cgworker.worker.process.exit import ends_with

        ends_with(exit_status)
    sys.exit(exit_status)


def run(argv: Sequence[str], *, is_process: bool = False) -> int:
    """Run one command line.

    Args:
        argv: its words.
        is_process: it is all that this process does, so that a child may read it.

    Returns:
        the exit status: 0 for ok, 1 for an error, or what the command says (command line 1).
    """
    if list(argv) == ["--version"]:
        print(f"cg {version('cgworker')}")  # noqa: T201 - the command line prints
        return 0
    with signals.deferred_signals() if _works(argv) else nullcontext():
        try:
            asked = _read_in_child(argv) if is_process and _stays(argv) else _read(argv)
            return asked if isinstance(asked, int) else _or_told(argv, asked.perform)
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:
            _write_no_more()
            return 1


def _read(argv: Sequence[str]) -> Call | int:
    """What the line asks for, or the exit status if that has been done or cannot be."""
    from cgworker.cli.root import read  # loads typer, which a version needs not

    return _or_told(argv, partial(read, argv))


def _read_in_child(argv: Sequence[str]) -> Call | int:
    from cgworker.cli.parse_in_child import parse_in_child

    import_module(_STAYING[argv[0], argv[1]])  # now, and the child need not do it as well
    return parse_in_child(partial(_read, argv))


def _or_told(argv: Sequence[str], act: Callable[[], Told]) -> Told | int:
    """What `act` returns, or the exit status once it is told why it failed."""
    try:
        return act()
    except BrokenPipeError:
        raise  # nobody is there to be told
    except Exception as raised:
        from cgworker.cli.call import fail
        from cgworker.cli.envelope import write_problem

        return fail(raised, partial(write_problem, as_json=_asks_for_json(argv)))


def _write_no_more() -> None:
    """Whoever read what we print has gone, and Python would complain of that when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


def repair_std_streams() -> None:
    """Some supervisors hand on closed standard streams, or that nobody can wait for a child of theirs."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # files are given the lowest free descriptor: that of the stream
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  # until the end
    if hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _leave_out_httpxs_command_line() -> None:
    """`import httpx` loads it wherever click is installed, and with it pygments and rich: 5 MiB a process."""
    sys.modules["httpx._main"] = None  # type: ignore[assignment]  # "there is none", says the import system


def _works(argv: Sequence[str]) -> bool:
    """Whether it is a worker, which ends in order from its first moment on."""
    return any(list(argv[: len(words)]) == words for words in _WORKERS)


def _stays(argv: Sequence[str]) -> bool:
    """Whether what reads its line is better left to a child; on Windows there is no such child."""
    return hasattr(os, "fork") and tuple(argv[:2]) in _STAYING


def _asks_for_json(argv: Sequence[str]) -> bool:
    """Whether --json is among cg's own flags: what follows `--` or --command is another program's."""
    for word in argv:
        if word in ("--", "--command"):
            return False
        if word == "--json":
            return True
    return False
