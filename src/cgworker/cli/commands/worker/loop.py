"""`cg worker loop`: work turns with a command until SIGTERM or SIGINT.

The module loads no typer: a loop runs for weeks, and a child process reads its line (`parse_in_child.py`).
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Annotated

import anyio
from attrs import evolve

from cgworker.cli.command_flags import CommandFlags
from cgworker.cli.loop_worker import log_worker_to_stderr, running_worker
from cgworker.cli.options import Flag, HealthPort, ServerFlags
from cgworker.cli.status_line import status_line
from cgworker.cli.worker_results import (
    LoopResult,
)
from cgworker.errors import UsageError
from cgworker.handlers import CommandHandler, ResidentCommandHandler
from cgworker.worker import WorkerOptions
from cgworker.worker.process.dumpable import close_memory
from cgworker.worker.process.exit import Ending, ending_in_time
from cgworker.worker.process.gc_tuning import relax_gc
from cgworker.worker.process.health import answering_health
from cgworker.worker.process.pid1 import run_below_pid1
from cgworker.worker.process.systemd import notifying_systemd
from cgworker.worker.retries import Retries


def loop(
    server: ServerFlags,
    runtime: CommandFlags,
    concurrency: Annotated[
        int | None,
        Flag(
            "--concurrency",
            min=1,
            metavar="N",
            help="How many turns at once.  [default: the agent's capacity]",
        ),
    ] = None,
    idle_sleep_seconds: Annotated[
        float,
        Flag(
            "--idle-sleep-seconds",
            min=0.01,
            metavar="S",
            help="The pause between requests to a kernel without long polls.",
        ),
    ] = 1.0,
    max_iterations: Annotated[
        int | None,
        Flag(
            "--max-iterations",
            min=1,
            metavar="N",
            help="Ask for work at most N times, one turn at a time, and end when there is none.",
        ),
    ] = None,
    retries: Annotated[
        int | None,
        Flag(
            "--retries",
            min=0,
            metavar="N",
            help="Try a turn again so often if its command fails, each time after longer.",
        ),
    ] = None,
    resident: Annotated[
        bool, Flag("--resident", help="The command stays, and gets turns as lines on its stdin.")
    ] = False,
    resident_count: Annotated[
        int | None,
        Flag(
            "--resident-count",
            min=1,
            metavar="N",
            help="With --resident: the most processes.  [default: one for each turn at once]",
        ),
    ] = None,
    exit_on_failure: Annotated[
        bool, Flag("--exit-on-failure", help="End at the first turn that fails.")
    ] = False,
    health_port: HealthPort = None,
    *,
    as_json: bool = False,
) -> LoopResult:
    """Work turns with a command until SIGTERM or SIGINT.

    Turns that are running then have the grace time to end, or are handed back. A failed turn, or an outage of
    the kernel or its database, does not end the loop.
    """
    close_memory()
    run_below_pid1()
    relax_gc()
    log_worker_to_stderr(logging.INFO)
    options = evolve(
        runtime.options(),
        concurrency=concurrency,
        poll_seconds=idle_sleep_seconds,
        retries=None if retries is None else Retries(retries),
    )
    handler = _handler(runtime, concurrency, resident=resident, count=resident_count)
    with ending_in_time() as ending:
        return anyio.run(
            partial(
                _loop,
                server,
                runtime,
                handler,
                options,
                max_iterations,
                exit_on_failure,
                health_port,
                as_json,
                ending,
            )
        )


def _handler(
    runtime: CommandFlags, concurrency: int | None, *, resident: bool, count: int | None
) -> CommandHandler | ResidentCommandHandler:
    if resident:
        return runtime.resident_handler(count)
    if count is not None:
        raise UsageError("--resident-count is for commands that stay: give --resident too")
    return runtime.handler(folder_per_turn=concurrency != 1)


async def _loop(
    server: ServerFlags,
    runtime: CommandFlags,
    handler: CommandHandler | ResidentCommandHandler,
    options: WorkerOptions,
    max_iterations: int | None,
    exit_on_failure: bool,
    health_port: int | None,
    as_json: bool,
    ending: Ending,
) -> LoopResult:
    async with running_worker(server, runtime, options, handler=handler, ending=ending) as worker:
        worker.exit_on_failure = exit_on_failure
        async with answering_health([worker], health_port), notifying_systemd([worker]):
            with status_line([worker], as_json=as_json):
                if max_iterations is None:
                    await worker.run()
                else:
                    await worker.work_at_most(max_iterations)
        return await worker.result()
