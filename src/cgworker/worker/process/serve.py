"""`run(*workers)`: run workers in one event loop, with signals and a shared slot limit, until they drain."""

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
from cgworker.worker.exits import loop_factory_surviving_exits
from cgworker.worker.process.dumpable import close_memory
from cgworker.worker.process.exit import ending_in_time
from cgworker.worker.process.gc_tuning import relax_gc
from cgworker.worker.process.health import answering_health
from cgworker.worker.process.pid1 import run_below_pid1
from cgworker.worker.process.systemd import notifying_systemd
from cgworker.worker.worker import Worker

_POLL_SECONDS = 0.25


def run(
    *workers: Worker,
    concurrency: int | None = None,
    health_port: int | None = None,
    backend: str = "asyncio",
    backend_options: Mapping[str, Any] | None = None,
) -> None:
    """Run the workers until SIGTERM or SIGINT, then drain; a second signal drains at once.

    The workers own the process:

    - The garbage collector runs less often.
    - Once the workers drain, the process ends ten seconds after the grace period and the time to interrupt
      handlers at the latest, even if handlers and threads still run. Its exit status is then 0 if every turn
      was settled or handed back, else 1.
    - If a stuck handler ends a worker (`on_stuck="drain"`), all workers drain, and the exit status is 1.
    - On Linux, other processes of the same user cannot read its memory and environment, unless
      `CG_WORKER_DUMPABLE=on` is set.

    Args:
        workers: the workers; none of them may run yet.
        concurrency: the most handlers at once, of all workers together; None is each worker's own limit.
        health_port: answer `/healthz` and `/readyz` on this port of 127.0.0.1; None serves no health.
        backend: "asyncio" or "trio".
        backend_options: the options of the backend, as for `anyio.run`, such as `{"use_uvloop": True}`.

    Raises:
        OSError: the health port is in use.
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
    """Run an event loop for workers that own their process; a handler's `sys.exit()` does not end it.

    Args:
        workers: the workers, which are drained without a grace period if anything else ends the loop.
        work: the work of the loop.
        backend: "asyncio" or "trio".
        backend_options: the options of the backend, as for `anyio.run`.
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
        options["loop_factory"] = loop_factory_surviving_exits(new_loop, end)
    anyio.run(work, backend=backend, backend_options=options)


async def serve(
    workers: tuple[Worker, ...],
    concurrency: int | None = None,
    health_port: int | None = None,
    at_once: Callable[[bool], None] = lambda _: None,
) -> None:
    """Run the workers in this event loop until a signal; the part of `run` for programs that have a loop.

    Args:
        workers: the workers; none of them may run yet.
        concurrency: the most handlers at once, of all workers together; None is each worker's own limit.
        health_port: answer `/healthz` and `/readyz` on this port of 127.0.0.1; None serves no health.
        at_once: called in the signal handler, with True from the second signal on.
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
    """Return what one worker raised, without the groups around it; if several raised, their group."""
    while isinstance(ended, BaseExceptionGroup) and len(ended.exceptions) == 1:
        ended = ended.exceptions[0]
    return ended


async def _run_and_close(worker: Worker, workers: tuple[Worker, ...], slots: anyio.Semaphore | None) -> None:
    try:
        await worker.run(shared_slots=slots)
        if worker.is_ended_by_stuck:  # so that the process is replaced by a new one
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
        drain: called in the event loop.
        at_once: called in the signal handler before that, even if the event loop is blocked.
        task_status: started once the signals that `signals.defer_signals()` has deferred were handled.
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
    except NotImplementedError:  # on Windows event loops get no signals, but Python does
        signals.defer_signals()
        task_status.started()
        await _poll_deferred(tell)


async def _poll_deferred(tell: Callable[[int], None]) -> None:
    while True:
        for number in signals.take_deferred():
            tell(number)
        await anyio.sleep(_POLL_SECONDS)
