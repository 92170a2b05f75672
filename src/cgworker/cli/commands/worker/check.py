"""`cg worker check`: check without a kernel that a command keeps the command contract."""

from __future__ import annotations

import logging
from typing import Annotated, Any

from cgworker.cli.options import Flag
from cgworker.cli.payload import parse_json, read_json, split_command
from cgworker.cli.progress import progress
from cgworker.cli.worker_results import CheckCard
from cgworker.errors import UsageError
from cgworker.testing.checking import DEFAULT_TURNS, TURNS, Check, CommandCheck


async def check(
    command: Annotated[
        str,
        Flag("--command", metavar="CMD [ARGS]...", help="The command to check; takes the rest of the line."),
    ],
    turns_file: Annotated[
        str | None,
        Flag("--turns-file", metavar="FILE", help=f"Inputs by name, as JSON: {', '.join(TURNS)}."),
    ] = None,
    turns_json: Annotated[
        str | None, Flag("--turns-json", metavar="JSON", help="Inputs by name, as JSON on the command line.")
    ] = None,
    time_limit_seconds: Annotated[
        float, Flag("--time-limit-seconds", min=0.1, metavar="S", help="How long a turn may take.")
    ] = 60.0,
    resident: Annotated[
        bool, Flag("--resident", help="The command stays, and gets its turns as lines on its stdin.")
    ] = False,
) -> CheckCard:
    """Run a command on a set of turns without a kernel, and check that it keeps the command contract.

    If only some inputs make the command do something, such as suspend, give those inputs. The exit status is
    1 if a check failed; a check that the inputs did not reach is no failure.
    """
    logging.getLogger("cgworker").setLevel(logging.ERROR)  # the check reports what it ends
    argv = split_command(command)
    check_run = CommandCheck(argv, _turns(turns_file, turns_json), time_limit_seconds, resident)
    checks: list[Check] = []
    with progress(f"running {argv[0]} on the first turn") as say:
        async for each in check_run.run():
            checks.append(each)
            say(f"{len(checks)} checked; {each.name}: {each.verdict}")
    verdicts = [each.verdict for each in checks]
    return CheckCard(
        command=argv,
        passed_count=verdicts.count("passed"),
        failed_count=verdicts.count("failed"),
        not_shown_count=verdicts.count("not shown"),
        checks=tuple(checks),
    )


def _turns(file: str | None, text: str | None) -> Any:
    if file is not None and text is not None:
        raise UsageError("give --turns-file or --turns-json, not both")
    turns = read_json(file) if file is not None else parse_json(text) if text is not None else DEFAULT_TURNS
    if not isinstance(turns, dict):
        raise UsageError('the turns are an object of inputs by name, such as {"answer": {"task": "hello"}}')
    return turns
