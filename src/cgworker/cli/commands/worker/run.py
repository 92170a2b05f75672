"""`cg worker run`: serve the workers that a program of the user's defines.

The module does not load typer: the process runs for weeks, and a child parses its line (`parse_in_child.py`).
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import anyio
from attrs import asdict, evolve, frozen

from cgworker.cli.apps import load_workers
from cgworker.cli.options import Argument, Flag, HealthPort, RenewInterval
from cgworker.cli.status_line import status_line
from cgworker.printable import log_to_stderr
from cgworker.worker import Worker
from cgworker.worker.process.dumpable import close_memory
from cgworker.worker.process.exit import ending_in_time
from cgworker.worker.process.gc_tuning import relax_gc
from cgworker.worker.process.pid1 import run_below_pid1
from cgworker.worker.process.serve import run_loop, serve


@frozen(kw_only=True)
class RunFlags:
    """The flags that override options of the workers."""

    grace_seconds: Annotated[
        float | None,
        Flag("--grace-seconds", min=0, metavar="S", help="How long turns may run on after SIGTERM."),
    ] = None
    time_limit_seconds: Annotated[
        float | None,
        Flag("--time-limit-seconds", min=0.01, metavar="S", help="End a handler after S seconds."),
    ] = None
    renew_interval_seconds: RenewInterval = None
    idle_sleep_seconds: Annotated[
        float | None,
        Flag(
            "--idle-sleep-seconds",
            min=0.01,
            metavar="S",
            help="The pause between requests to a kernel without long polls.",
        ),
    ] = None
    concurrency: Annotated[
        int | None,
        Flag(
            "--concurrency",
            min=1,
            metavar="N",
            help="How many turns at once, all workers together.  [default: each agent's capacity]",
        ),
    ] = None

    outbox: Annotated[
        Literal["before", "beside", "late"] | None,
        Flag("--outbox", help="When to write a result to disk: before, beside or after the first request."),
    ] = None
    health_port: HealthPort = None

    def applied_to(self, worker: Worker) -> Worker:
        """Return the worker with these options in place of its own.

        Args:
            worker: the worker of the program.
        """
        given: dict[str, Any] = {
            "grace_seconds": self.grace_seconds,
            "time_limit_seconds": self.time_limit_seconds,
            "renew_seconds": self.renew_interval_seconds,
            "poll_seconds": self.idle_sleep_seconds,
            "outbox": self.outbox,
        }
        given_options = {name: value for name, value in given.items() if value is not None}
        return worker.with_kernel(worker.kernel, options=evolve(worker.options, **given_options))

    def words(self) -> list[str]:
        """Return the flags that are given, as they are typed."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@frozen(kw_only=True)
class ServedAgent:
    """An agent whose turns were worked, and the kinds that have a handler of their own."""

    project_id: str
    agent_id: str
    turn_kinds: tuple[str, ...]


@frozen(kw_only=True)
class RunResult:
    """The agents that were served."""

    served: tuple[ServedAgent, ...]


@frozen(kw_only=True)
class StuckRun(RunResult):
    """The agents that were served until a stuck handler ended the worker (`on_stuck="drain"`)."""

    exit_status: ClassVar[int] = 1


def run(
    apps: Annotated[
        list[str],
        Argument(
            metavar="MODULE:WORKER...", help="Workers, or functions that make them, such as desk:worker."
        ),
    ],
    behaviour: RunFlags,
    reload: Annotated[
        bool, Flag("--reload", help="Drain and start again when a Python file changes.")
    ] = False,
    *,
    as_json: bool = False,
) -> RunResult:
    """Work turns with the workers of a Python program, in one process, until SIGTERM or SIGINT.

    Turns that are running then have the grace time to end, or are handed back.
    """
    log_to_stderr(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    close_memory()
    run_below_pid1()
    if reload:
        from cgworker.cli.reloading import serve_with_reload  # needs the extra `reload`

        json_flag = ["--json"] if as_json else []
        anyio.run(
            serve_with_reload,
            [sys.executable, "-m", "cgworker", "worker", "run", *behaviour.words(), *json_flag, *apps],
        )
        return RunResult(served=())
    workers = tuple(behaviour.applied_to(worker) for worker in load_workers(apps))
    relax_gc()
    with ending_in_time() as ending:
        ending.watch(workers)
        with status_line(workers, as_json=as_json):
            work = partial(serve, workers, behaviour.concurrency, behaviour.health_port, ending.begin)
            run_loop(workers, work)
    stuck = any(worker.is_ended_by_stuck for worker in workers)
    return (StuckRun if stuck else RunResult)(served=tuple(map(_served, workers)))


def _served(worker: Worker) -> ServedAgent:
    return ServedAgent(
        project_id=worker.agent.project_id,
        agent_id=worker.agent.agent_id,
        turn_kinds=tuple(worker.handlers),
    )
