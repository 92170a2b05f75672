"""`cg worker replay`: do a past turn again, and compare the results."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from cgworker.cli.apps import load_workers
from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import Argument, Flag, ServerFlags
from cgworker.cli.payload import split_command
from cgworker.cli.worker_results import Replay
from cgworker.client import KernelClient
from cgworker.errors import UsageError
from cgworker.handlers import CommandHandler, Handler
from cgworker.printable import printable, printable_json
from cgworker.testing.replaying import replay as do_again
from cgworker.wire.converter import dumps, unstructure
from cgworker.wire.refs import TurnRef
from cgworker.worker import Worker


async def replay(
    server: ServerFlags,
    turn: Annotated[str, Argument(metavar="TURN", help="The closed turn, such as T-7.")],
    app: Annotated[
        str | None,
        Flag("--app", metavar="MODULE:WORKER", help="The worker to use, such as desk:worker."),
    ] = None,
    command: Annotated[
        str | None,
        Flag("--command", metavar="CMD [ARGS]...", help="The command to use; takes the rest of the line."),
    ] = None,
    all_records: Annotated[
        bool, Flag("--all-records", help="Show it all records of the turn but the final one.")
    ] = False,
) -> Replay:
    """Do a past turn again without a claim and without writing to the kernel, and compare the results.

    The turn begins with the input of its dispatch. Its steps are not done again, and its children and
    questions end as they did. Records that it would append go to stderr. Effects outside CommonGround happen
    again. The exit status is 1 if the results differ.
    """
    logging.getLogger("cgworker").setLevel(logging.ERROR)  # the result is the comparison
    async with _handler(server, app, command) as (kernel, handler):
        assert kernel.agent is not None
        past = TurnRef(project_id=kernel.agent.project_id, turn_id=turn)
        done = await do_again(kernel, past, handler, all_records=all_records, on_record=_print_record)
    return Replay(
        project_id=past.project_id,
        turn_id=past.turn_id,
        agent_id=done.turn.target_agent.agent_id,
        same=done.same,
        then=unstructure(done.then),
        now=unstructure(done.now),
        difference=done.difference,
    )


@asynccontextmanager
async def _handler(
    server: ServerFlags, app: str | None, command: str | None
) -> AsyncIterator[tuple[KernelClient, Handler | Worker]]:
    """Yield the kernel that has the turn (the worker's own, unless a profile is given) and the handler."""
    if (app is None) == (command is None):
        raise UsageError("give --app or --command, and not both")
    worker = None if app is None else _only_one(app)
    if worker is not None and server.profile is None:
        async with worker.kernel as kernel:
            yield kernel, worker
    else:
        async with as_actor(server, acting_agent(server, None, None)) as kernel:
            yield kernel, worker or CommandHandler(split_command(command or ""))


def _only_one(app: str) -> Worker:
    workers = load_workers([app])
    if len(workers) != 1:
        raise UsageError(f"{app} is {len(workers)} workers: name the one that works for the turn's agent")
    return workers[0]


def _print_record(role: str, payload: Any) -> None:
    sys.stderr.write(f"{printable(role)}: {printable_json(dumps(payload).decode())}\n")
