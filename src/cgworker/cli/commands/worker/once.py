"""`cg worker once`: work one turn with a command."""

from __future__ import annotations

import logging
from functools import partial

import anyio

from cgworker.cli.command_flags import CommandFlags
from cgworker.cli.loop_worker import log_worker_to_stderr, running_worker
from cgworker.cli.options import ServerFlags
from cgworker.cli.progress import SILENT_SECONDS, progress
from cgworker.cli.worker_results import (
    NothingClaimed,
    UnreadTurn,
    WorkedTurn,
)
from cgworker.events import Event, TurnClaimed
from cgworker.worker.process.dumpable import close_memory
from cgworker.worker.process.exit import Ending, ending_in_time


def once(server: ServerFlags, runtime: CommandFlags) -> WorkedTurn | UnreadTurn | NothingClaimed:
    """Claim one turn, run a command on it, and settle it by what the command leaves."""
    close_memory()
    log_worker_to_stderr(logging.WARNING)
    with ending_in_time() as ending:
        return anyio.run(partial(_once, server, runtime, ending))


async def _once(
    server: ServerFlags, runtime: CommandFlags, ending: Ending
) -> WorkedTurn | UnreadTurn | NothingClaimed:
    options = runtime.options()
    handler = runtime.handler(folder_per_turn=False)
    async with running_worker(server, runtime, options, handler=handler, ending=ending) as worker:
        with progress(f"waiting for a turn of {worker.agent}", after_seconds=SILENT_SECONDS) as say:

            def tell(event: Event) -> None:
                if isinstance(event, TurnClaimed):
                    say(f"{event.turn.turn_id} is running")

            worker.listen(tell)
            return await worker.work_one()
