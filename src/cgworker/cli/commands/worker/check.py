"""`cg worker check`: does a command keep the command contract? Without a kernel."""

from __future__ import annotations

import logging
from typing import Annotated, Any

from cgworker.cli.options import Flag
from cgworker.cli.payload import parse_json, read_json, split_command
from cgworker.cli.worker_results import Card
from cgworker.errors import UsageError
from cgworker.testing.checking import DEFAULT_TURNS, TURNS, CommandCheck


async def check(
    command: Annotated[
        str,
        Flag("--command", metavar="CMD [ARGS]...", help="What to check; the rest of the line."),
    ],
    turns_file: Annotated[
        str | None,
        Flag("--turns-file", metavar="FILE", help=f"Inputs by name, as JSON: {', '.join(TURNS)}."),
    ] = None,
    turns_json: Annotated[
        str | None, Flag("--turns-json", metavar="JSON", help="The same, on the command line.")
    ] = None,
    time_limit_seconds: Annotated[
        float, Flag("--time-limit-seconds", min=0.1, metavar="S", help="How long a turn may take.")
    ] = 60.0,
) -> Card:
    """Run a command on a set of turns, without a kernel, and say whether it keeps the command contract.

    What only some inputs make a command do, such as suspending, is shown by naming those inputs. Exit status
    1 if something failed; what was not shown is not a failure.
    """
    logging.getLogger("cgworker").setLevel(logging.ERROR)  # that a checked turn is ended is no news
    argv = split_command(command)
    examination = CommandCheck(argv, _turns(turns_file, turns_json), time_limit_seconds)
    checks = tuple([each async for each in examination.run()])
    verdicts = [each.verdict for each in checks]
    return Card(
        command=argv,
        passed_count=verdicts.count("passed"),
        failed_count=verdicts.count("failed"),
        not_shown_count=verdicts.count("not shown"),
        checks=checks,
    )


def _turns(file: str | None, text: str | None) -> Any:
    if file is not None and text is not None:
        raise UsageError("give --turns-file or --turns-json, not both")
    turns = read_json(file) if file is not None else parse_json(text) if text is not None else DEFAULT_TURNS
    if not isinstance(turns, dict):
        raise UsageError('the turns are an object of inputs by name, such as {"answer": {"task": "hello"}}')
    return turns
