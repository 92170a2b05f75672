"""End a process in time after its workers drain, even if threads or handlers still run.

A thread cannot be ended from outside, nor can a handler that shields itself, and Python waits for threads
before it exits. A watchdog thread therefore counts from the drain on, and ends the process when the time is
over. Only code that owns the process does this: `run()` and the commands `cg worker run|loop|once`. A program
that embeds a worker does not.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from attrs import define, field

from cgworker import events
from cgworker.events import Event, logger
from cgworker.lease import monotonic
from cgworker.worker.drain import AFTER_GRACE_SECONDS
from cgworker.worker.worker import Worker

_CLOSING_SECONDS = 5.0  # from the end of the workers to the end of `run()`: close connections and lifespans
_LAST_SECONDS = 5.0  # from there to the end of the process; with a stuck handler, from the end of the workers
_FLUSHING_SECONDS = 2.0


@define(eq=False)
class Ending:
    """Ends this process in time. Made by `ending_in_time`.

    Attributes:
        exit_status: the exit status if the process is ended; None takes it from the workers: 1 if a turn was
            neither settled nor handed back, else 0.
    """

    exit_status: int | None = None
    _workers: Sequence[Worker] = ()
    _draining: int = 0
    _stopped: int = 0
    # Safe to use in a signal handler: `SimpleQueue.put` never blocks.
    _deadlines: queue.SimpleQueue[float | None] = field(init=False, factory=queue.SimpleQueue)

    def watch(self, workers: Sequence[Worker]) -> None:
        """Start to count once all of these workers drain; none of them may run yet."""
        self._workers = workers
        for worker in workers:
            worker.listen(self._note, turns=False)
        threading.Thread(target=self._count, name="cgworker: exit watchdog", daemon=True).start()

    def begin(self, force: bool) -> None:
        """Count from now on, since the workers drain; may be called in a signal handler.

        Args:
            force: whether the turns held get no grace period.
        """
        options = [worker.options for worker in self._workers]
        grace = 0 if force else max((each.grace_seconds for each in options), default=0)
        interrupt = max((each.interrupt_seconds for each in options), default=0)
        self._deadlines.put(monotonic() + grace + interrupt + AFTER_GRACE_SECONDS + _CLOSING_SECONDS)

    def end(self) -> None:
        """Note that the event loop has ended; threads and child processes that remain get five seconds."""
        self._deadlines.put(None)
        if self.exit_status is None:
            self.exit_status = self._status_of_workers()
        if _has_to_wait():
            self._count_down_from(_main_thread_ended())

    def _note(self, event: Event) -> None:
        match event:
            case events.WorkerDraining():
                self._draining += 1
                if self._draining == len(self._workers):
                    self.begin(force=False)
            case events.WorkerStopped():
                self._stopped += 1
                if self._stopped == len(self._workers) and any(each.stuck_count for each in self._workers):
                    self._deadlines.put(monotonic() + _LAST_SECONDS)

    def _count(self) -> None:
        deadline: float | None = None
        while True:
            try:
                told = self._deadlines.get(
                    timeout=None if deadline is None else max(deadline - monotonic(), 0)
                )
            except queue.Empty:
                end_process(self._status_of_workers() if self.exit_status is None else self.exit_status)
            if told is None:
                return
            deadline = told if deadline is None else min(deadline, told)

    def _count_down_from(self, beginning: threading.Event) -> None:
        exit_log = _ExitLog()

        def count_down() -> None:
            beginning.wait()
            time.sleep(_LAST_SECONDS)
            end_process(self.exit_status or 0, exit_log)

        threading.Thread(target=count_down, name="cgworker: exit watchdog", daemon=True).start()

    def _status_of_workers(self) -> int:
        return int(any(worker.is_ended_by_stuck or worker.has_unsettled for worker in self._workers))


_endings: list[Ending] = []


@contextmanager
def ending_in_time() -> Iterator[Ending]:
    """End the process in time, once the workers of an event loop that runs in this block drain.

    For code that owns the process.
    """
    ending = Ending()
    _endings.append(ending)
    try:
        yield ending
    except BaseException:
        ending.exit_status = 1
        raise
    finally:
        ending.end()


def set_exit_status(exit_status: int) -> None:
    """Set the exit status of the process, in case it has to be ended.

    Args:
        exit_status: what the program ends with.
    """
    for ending in _endings:
        ending.exit_status = exit_status


class _ExitLog:
    """A thread that logs the forced exit.

    It is started early: since Python 3.12 no thread can be started once the main thread has ended.
    """

    def __init__(self) -> None:
        self._exit_status: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="cgworker: exit log", daemon=True)
        self._thread.start()

    def write(self, exit_status: int) -> None:
        """Write the log; give up after two seconds, since a running thread may hold the lock of a stream."""
        self._exit_status.put(exit_status)
        self._thread.join(_FLUSHING_SECONDS)

    def _run(self) -> None:
        _log_and_flush(self._exit_status.get())


def end_process(exit_status: int, exit_log: _ExitLog | None = None) -> None:
    """End this process and its `multiprocessing` children now; never returns.

    Args:
        exit_status: the exit status of the process.
        exit_log: writes the log; None starts one now.
    """
    (exit_log or _ExitLog()).write(exit_status)
    os._exit(exit_status)


def _log_and_flush(exit_status: int) -> None:
    left = [thread.name for thread in threading.enumerate() if not thread.daemon and not _is_main(thread)]
    logger.error(
        "the process ends now, with status %d, though handlers or threads still run: %s",
        exit_status,
        ", ".join(left) or "no thread but the main one",
    )
    _end_children()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def _is_main(thread: threading.Thread) -> bool:
    return thread is threading.main_thread()


def _children() -> list[Any]:
    """Return the `multiprocessing` children; at a normal exit, it joins or ends them itself."""
    package = sys.modules.get("multiprocessing")
    return package.active_children() if package is not None else []


def _end_children() -> None:
    children = _children()
    for child in children:
        child.terminate()
    for child in children:
        child.join(_FLUSHING_SECONDS / 2 / len(children))
        if child.is_alive():
            child.kill()


def _has_to_wait() -> bool:
    """Whether Python would wait for a thread or a child process before it exits."""
    return bool(_children()) or any(
        not thread.daemon and not _is_main(thread) for thread in threading.enumerate()
    )


def _main_thread_ended() -> threading.Event:
    """Return an event that is set when the main thread ends; `atexit` would run after all threads."""
    done = threading.Event()
    with suppress(RuntimeError):  # it has ended already
        threading._register_atexit(done.set)  # type: ignore[attr-defined]  # noqa: SLF001
    return done
