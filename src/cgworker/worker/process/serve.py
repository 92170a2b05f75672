"""`run(*workers)`: a program's last line. Signals, one slot limit, one event loop, until all have drained."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import anyio
import anyio.abc

from cgworker import signals
from cgworker.errors import UsageError
from cgworker.events import logger
from cgworker.printable import log_to_stderr
from cgworker.worker.exits import loop_that_goes_on
from cgworker.worker.process.dumpable import close_memory
from cgworker.worker.process.exit import ending_in_time
from cgworker.worker.process.gc_tuning import relax_gc
from cgworker.worker.process.health import answering_health
from cgworker.worker.process.pid1 import run_below_pid1
from cgworker.worker.process.systemd import notifying_systemd
from cgworker.worker.worker import Worker

_LOOK_SECONDS = 0.25


def run(
    *workers: Worker,
    concurrency: int | None = None,
    health_port: int | None = None,
    backend: str = "asyncio",
    backend_options: Mapping[str, Any] | None = None,
) -> None:
    """Run the workers until SIGTERM or SIGINT, then drain; a second signal drains at once.

    The process is theirs. Its garbage collector is told to look less often, and once they drain it ends in
    time, whatever handlers and threads still run: ten seconds after the grace and the time to interrupt. Its
    exit status is then 0 if every turn was settled or handed back, and 1 if not. Where a stuck handler has
    ended a worker (`on_stuck="drain"`), all of them drain, and the status is 1.
    Other processes of its user cannot read its memory and environment (Linux; `CG_WORKER_DUMPABLE=on`
    leaves them open).

    Args:
        concurrency: how many handlers at once, all workers together; None is each worker's own limit.
        health_port: answer `/healthz` and `/readyz` on this port of 127.0.0.1; None does not.
        backend: "asyncio" or "trio".
        backend_options: what `anyio.run` passes on to it, such as `{"use_uvloop": True}`.

    Raises:
        OSError: the health port is taken.
        SystemExit: a stuck handler has ended a worker (`on_stuck="drain"`).
        UsageError: there is no worker, or one has no handler.
        CommandNotFound: the command of a command handler is missing.
    """
    if not workers:
        raise UsageError("run() needs at least one worker")
    with signals.deferred_signals():
        close_memory()
        run_below_pid1()
        if not logging.getLogger().handlers:
            log_to_stderr(logging.INFO)
            logging.getLogger("httpx").setLevel(logging.WARNING)
        relax_gc()
        with ending_in_time() as ending:
            ending.watch(workers)
            work = partial(serve, workers, concurrency, health_port, ending.begin)
            run_loop(workers, work, backend, backend_options or {})
            if any(worker.is_ended_by_stuck for worker in workers):
                sys.exit(1)


def run_loop(
    workers: Sequence[Worker],
    work: Callable[[], Awaitable[None]],
    backend: str = "asyncio",
    backend_options: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Run an event loop for workers that own their process; no `sys.exit()` in a handler's task ends it.

    Args:
        workers: drain at once where anything else ends it.
        work: what to run.
        backend: "asyncio" or "trio".
        backend_options: what `anyio.run` passes on to it.
    """

    def end() -> None:
        for worker in workers:
            worker.drain(force=True)

    options = dict(backend_options)
    if backend == "asyncio":
        new_loop = options.pop("loop_factory", None)
        if options.pop("use_uvloop", False) and new_loop is None:
            import uvloop  # an extra

            new_loop = uvloop.new_event_loop
        options["loop_factory"] = loop_that_goes_on(new_loop, end)
    anyio.run(work, backend=backend, backend_options=options)


async def serve(
    workers: tuple[Worker, ...],
    concurrency: int | None = None,
    health_port: int | None = None,
    at_once: Callable[[bool], None] = lambda _: None,
) -> None:
    """What `run` runs: for programs that have an event loop but want the signals handled.

    Args:
        workers: which; none may run yet.
        concurrency: how many handlers at once, all workers together; None is each worker's own limit.
        health_port: answer `/healthz` and `/readyz` on this port of 127.0.0.1; None does not.
        at_once: called in a signal's handler, with True at the second one.
    """
    slots = anyio.Semaphore(concurrency) if concurrency else None
    try:
        async with anyio.create_task_group() as group:
            await group.start(_drain_on_signals, workers, at_once)
            async with (
                answering_health(workers, health_port),
                notifying_systemd(workers),
                anyio.create_task_group() as running,
            ):
                for worker in workers:
                    running.start_soon(_run_and_close, worker, workers, slots)
            group.cancel_scope.cancel()
    except BaseExceptionGroup as ended:
        raise _as_raised(ended) from None


def _as_raised(ended: BaseException) -> BaseException:
    """What one worker raised, without the task groups around it; several are told together."""
    while isinstance(ended, BaseExceptionGroup) and len(ended.exceptions) == 1:
        ended = ended.exceptions[0]
    return ended


async def _run_and_close(worker: Worker, workers: tuple[Worker, ...], slots: anyio.Semaphore | None) -> None:
    try:
        await worker.run(shared_slots=slots)
        if worker.is_ended_by_stuck:  # for a new process; so this one ends
            for each in workers:
                each.drain()
    finally:
        with anyio.CancelScope(shield=True):
            await worker.kernel.aclose()


async def _drain_on_signals(
    workers: tuple[Worker, ...],
    at_once: Callable[[bool], None],
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    def drain(force: bool) -> None:
        for worker in workers:
            worker.drain(force=force)

    await watch_signals(drain, at_once=at_once, task_status=task_status)


async def watch_signals(
    drain: Callable[[bool], None],
    *,
    at_once: Callable[[bool], None] = lambda _: None,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Call `drain(False)` at the first SIGTERM or SIGINT and `drain(True)` at the second.

    Args:
        drain: what to do.
        at_once: what to do in the signal's handler, before that, even if the event loop stands still.
        task_status: started once the signals held since `signals.defer_signals()` have been told.
    """
    force, heard_count = False, 0

    def hear() -> None:
        nonlocal heard_count
        heard_count += 1
        at_once(heard_count > 1)

    def tell(number: int) -> None:
        nonlocal force
        logger.info("%s: %s", signal.Signals(number).name, "ending at once" if force else "draining")
        drain(force)
        force = True

    try:
        receiver = anyio.open_signal_receiver(*signals.ENDING)
        with signals.not_inherited(), receiver as received, signals.calling_on_signal(hear):
            for number in signals.take_deferred():
                hear()
                tell(number)
            task_status.started()
            async for number in received:
                tell(number)
    except NotImplementedError:  # Windows: event loops hear no signals there, but Python does
        signals.defer_signals()
        task_status.started()
        await _look_for_held(tell)


async def _look_for_held(tell: Callable[[int], None]) -> None:
    while True:
        for number in signals.take_deferred():
            tell(number)
        await anyio.sleep(_LOOK_SECONDS)
