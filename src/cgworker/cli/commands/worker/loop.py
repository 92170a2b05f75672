"""`cg worker once` and `cg worker loop`: thin on `cgworker.Worker` and `CommandHandler`.

Loads no typer: a loop runs for weeks, and its line is read in another process (`apart.py`).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
from attrs import evolve, frozen

from cgworker.cli.call import words_of
from cgworker.cli.connect import as_actor, worker_agent
from cgworker.cli.loop_worker import LoopWorker, environment_of
from cgworker.cli.options import Flag, HealthPort, RenewInterval, ServerFlags
from cgworker.cli.status_line import status_line
from cgworker.cli.worker_results import (
    LoopResult,
    NothingClaimed,
    UnreadTurn,
    WorkedTurn,
)
from cgworker.handlers import CommandHandler
from cgworker.handlers.folder import CommandFiles
from cgworker.printable import log_to_stderr
from cgworker.worker import WorkerOptions
from cgworker.worker.process.dumpable import close_memory
from cgworker.worker.process.exit import Ending, ending_in_time
from cgworker.worker.process.gc_tuning import relax_gc
from cgworker.worker.process.health import answering_health
from cgworker.worker.process.pid1 import run_below_pid1
from cgworker.worker.process.serve import watch_signals
from cgworker.worker.process.systemd import notifying_systemd

_PAGE_RECORDS = 100


@frozen(kw_only=True)
class CommandFlags:
    """What to run on each turn, and how."""

    project_id: Annotated[
        str | None, Flag("--project-id", metavar="PROJECT", help="The agent's, without a profile.")
    ] = None
    agent_id: Annotated[
        str | None, Flag("--agent-id", metavar="AGENT", help="The agent, without a profile.")
    ] = None
    context_after_turn_seq: Annotated[
        int | None,
        Flag("--context-after-turn-seq", metavar="N", help="Only a page of records, after this one."),
    ] = None
    context_limit: Annotated[
        int | None,
        Flag(
            "--context-limit",
            min=1,
            metavar="N",
            help="Only a page of so many records.  [default: all; a page has 100]",
        ),
    ] = None
    work_dir: Annotated[
        str | None,
        Flag("--work-dir", metavar="DIR", help="Keep the turns' files here, not in temporary folders."),
    ] = None
    context_out_file: Annotated[
        str | None, Flag("--context-out-file", metavar="FILE", help="Where CG_CONTEXT_FILE is.")
    ] = None
    final_in_file: Annotated[
        str | None, Flag("--final-in-file", metavar="FILE", help="Where CG_FINAL_FILE is.")
    ] = None
    suspend_in_file: Annotated[
        str | None, Flag("--suspend-in-file", metavar="FILE", help="Where CG_SUSPEND_FILE is.")
    ] = None
    failure_in_file: Annotated[
        str | None, Flag("--failure-in-file", metavar="FILE", help="Where CG_FAILURE_FILE is.")
    ] = None
    renew_interval_seconds: RenewInterval = None
    final_record_role: Annotated[
        str, Flag("--final-record-role", metavar="ROLE", help="What kind of record the result is.")
    ] = "deliverable"
    time_limit_seconds: Annotated[
        float | None,
        Flag("--time-limit-seconds", min=0.01, metavar="S", help="End a command after it."),
    ] = None
    grace_seconds: Annotated[
        float,
        Flag("--grace-seconds", min=0, metavar="S", help="How long it may go on after SIGTERM."),
    ] = 20.0
    clean_env: Annotated[
        bool, Flag("--clean-env", help="Give the command PATH, HOME and the like, not everything.")
    ] = False
    env: Annotated[
        list[str] | None,
        Flag("--env", metavar="NAME[=VALUE]", help="A variable for the command; repeat for more."),
    ] = None
    command: Annotated[
        str,
        Flag(
            "--command", metavar="CMD [ARGS]...", help="What to run on each turn; takes the rest of the line."
        ),
    ]

    def handler(self, *, folder_per_turn: bool) -> CommandHandler:
        """The handler that runs the command."""
        return CommandHandler(
            words_of(self.command),
            work_dir=_path(self.work_dir),
            folder_per_turn=folder_per_turn,
            files=CommandFiles(
                context=_path(self.context_out_file),
                final=_path(self.final_in_file),
                suspend=_path(self.suspend_in_file),
                failure=_path(self.failure_in_file),
            ),
            context_after_turn_seq=self.context_after_turn_seq or 0,
            context_limit=self._context_limit(),
            environment=environment_of(self.clean_env, self.env),
            final_record_role=self.final_record_role,
        )

    def options(self) -> WorkerOptions:
        """How the worker behaves."""
        return WorkerOptions(
            renew_seconds=self.renew_interval_seconds,
            context_page_size=min(self.context_limit or _PAGE_RECORDS, 1000),
            grace_seconds=self.grace_seconds,
            time_limit_seconds=self.time_limit_seconds,
        )

    def _context_limit(self) -> int | None:
        """A page if one is asked for, as the reference has it; else all records."""
        if self.context_limit is None and self.context_after_turn_seq is not None:
            return _PAGE_RECORDS
        return self.context_limit


def once(server: ServerFlags, runtime: CommandFlags) -> WorkedTurn | UnreadTurn | NothingClaimed:
    """Claim one turn, run the command on it, and settle it by what the command leaves."""
    close_memory()
    _log_to_stderr(logging.WARNING)
    with ending_in_time() as ending:
        return anyio.run(partial(_once, server, runtime, ending))


async def _once(
    server: ServerFlags, runtime: CommandFlags, ending: Ending
) -> WorkedTurn | UnreadTurn | NothingClaimed:
    options = runtime.options()
    async with _adapter(server, runtime, options, folder_per_turn=False, ending=ending) as adapter:
        return await adapter.work_one()


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
            "--idle-sleep-seconds", min=0.01, metavar="S", help="How often to ask a kernel that cannot wait."
        ),
    ] = 1.0,
    max_iterations: Annotated[
        int | None,
        Flag(
            "--max-iterations",
            min=1,
            metavar="N",
            help="Ask for work so often, one turn at a time, and end when there is none.",
        ),
    ] = None,
    exit_on_failure: Annotated[
        bool, Flag("--exit-on-failure", help="End at the first turn that fails.")
    ] = False,
    health_port: HealthPort = None,
    *,
    as_json: bool = False,
) -> LoopResult:
    """Work turns until SIGTERM or SIGINT: then held turns may end in their grace, or are handed back.

    A failed turn, an outage of the kernel or of its database does not end it.
    """
    close_memory()
    run_below_pid1()
    relax_gc()
    _log_to_stderr(logging.INFO)
    options = evolve(
        runtime.options(),
        concurrency=concurrency,
        poll_seconds=idle_sleep_seconds,
    )
    with ending_in_time() as ending:
        return anyio.run(
            partial(
                _loop, server, runtime, options, max_iterations, exit_on_failure, health_port, as_json, ending
            )
        )


async def _loop(
    server: ServerFlags,
    runtime: CommandFlags,
    options: WorkerOptions,
    max_iterations: int | None,
    exit_on_failure: bool,
    health_port: int | None,
    as_json: bool,
    ending: Ending,
) -> LoopResult:
    several = options.concurrency != 1
    async with _adapter(server, runtime, options, folder_per_turn=several, ending=ending) as adapter:
        adapter.exit_on_failure = exit_on_failure
        async with answering_health([adapter], health_port), notifying_systemd([adapter]):
            with status_line([adapter], as_json=as_json):
                if max_iterations is None:
                    await adapter.run()
                else:
                    await adapter.work_at_most(max_iterations)
        return await adapter.result()


@asynccontextmanager
async def _adapter(
    server: ServerFlags,
    runtime: CommandFlags,
    options: WorkerOptions,
    *,
    folder_per_turn: bool,
    ending: Ending,
) -> AsyncIterator[LoopWorker]:
    """The worker, drained by SIGTERM and SIGINT."""
    agent = worker_agent(server, runtime.project_id, runtime.agent_id)
    async with as_actor(server, agent) as kernel, anyio.create_task_group() as beside:
        adapter = LoopWorker(kernel, runtime.handler(folder_per_turn=folder_per_turn), options=options)
        ending.watch([adapter])
        drain = partial(watch_signals, lambda force: adapter.drain(force=force), at_once=ending.begin)
        await beside.start(drain)
        yield adapter
        beside.cancel_scope.cancel()


def _path(given: str | None) -> Path | None:
    return None if given is None else Path(given).expanduser().absolute()


def _log_to_stderr(level: int) -> None:
    log_to_stderr(level)
    logging.getLogger("httpx").setLevel(logging.WARNING)
