"""`cg`: runs a command line and turns whatever happens into an exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from typing import NoReturn

from cgworker import signals

_WORKERS = (["worker", "once"], ["worker", "loop"], ["worker", "claim", "run"])


def main() -> NoReturn:
    """The entry point of `cg` and `python -m cgworker`."""
    _leave_out_httpxs_command_line()
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Run one command line.

    Returns:
        the exit status: 0 for ok, 1 for an error, or what the command says (cli.md 1).
    """
    if list(argv) == ["--version"]:
        print(f"cg {version('cgworker')}")  # noqa: T201 - the command line prints
        return 0
    with signals.held() if _works(argv) else nullcontext():
        return _run(argv)


def _run(argv: Sequence[str]) -> int:
    from cgworker.cli.command import fail  # loads typer, which a version needs not
    from cgworker.cli.envelope import write_problem
    from cgworker.cli.words import root

    try:
        return int(root().main(args=list(argv), prog_name="cg", standalone_mode=False) or 0)
    except Exception as raised:
        return fail(raised, partial(write_problem, as_json=_asks_for_json(argv)))


def _leave_out_httpxs_command_line() -> None:
    """`import httpx` loads it wherever click is installed, and with it pygments and rich: 5 MiB a process."""
    sys.modules["httpx._main"] = None  # type: ignore[assignment]  # "there is none", says the import system


def _works(argv: Sequence[str]) -> bool:
    """Whether it is a worker, which ends in order from its first moment on."""
    return any(list(argv[: len(words)]) == words for words in _WORKERS)


def _asks_for_json(argv: Sequence[str]) -> bool:
    """Whether --json is among cg's own flags: what follows `--` or --command is another program's."""
    for word in argv:
        if word in ("--", "--command"):
            return False
        if word == "--json":
            return True
    return False
