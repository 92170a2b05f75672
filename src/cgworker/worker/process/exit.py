"""The end of a process that is a worker's own: in time, whatever threads and handlers still run.

Neither a thread nor a handler that shields itself can be ended from outside, and Python waits for threads
before it ends. So a thread of ours counts the seconds from the drain on, and ends the process when they are
over. Only what owns its process has one: `run()` and the commands `cg worker run|loop|once`. A program that
embeds a worker does not.
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

_CLOSING_SECONDS = 5.0  # from the workers' end to the end of `run()`: connections, the lifespans' ends
_LAST_SECONDS = 5.0  # from there, or with a stuck handler from the workers' end, to the end of the process
_FLUSHING_SECONDS = 2.0


@define(eq=False)
class Ending:
    """Ends this process in time. Made by `ending_in_time`.

    Attributes:
        exit_status: what the process ends with if it is ended; None is what the workers say.
    """

    exit_status: int | None = None
    _workers: Sequence[Worker] = ()
    _draining: int = 0
    _stopped: int = 0
    # of what a signal handler may touch: putting into it never waits
    _deadlines: queue.SimpleQueue[float | None] = field(init=False, factory=queue.SimpleQueue)

    def watch(self, workers: Sequence[Worker]) -> None:
        """Let the seconds count when all of these drain; none may run yet."""
        self._workers = workers
        for worker in workers:
            worker.listen(self._note)
        threading.Thread(target=self._count, name="cgworker: the end", daemon=True).start()

    def begin(self, force: bool) -> None:
        """The workers were told to drain; may be called by a signal handler."""
        options = [worker.options for worker in self._workers]
        grace = 0 if force else max((each.grace_seconds for each in options), default=0)
        interrupt = max((each.interrupt_seconds for each in options), default=0)
        self._deadlines.put(monotonic() + grace + interrupt + AFTER_GRACE_SECONDS + _CLOSING_SECONDS)

    def end(self) -> None:
        """The event loop has ended: what is left are threads and processes, and they have some seconds."""
        self._deadlines.put(None)
        if self.exit_status is None:
            self.exit_status = self._status_of_workers()
        if _others_run():
            self._count_down_from(_at_the_programs_end())

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
        last_words = _LastWords()

        def count_down() -> None:
            beginning.wait()
            time.sleep(_LAST_SECONDS)
            end_process(self.exit_status or 0, last_words)

        threading.Thread(target=count_down, name="cgworker: the end", daemon=True).start()

    def _status_of_workers(self) -> int:
        return int(any(worker.is_ended_by_stuck or worker.has_unsettled for worker in self._workers))


_endings: list[Ending] = []


@contextmanager
def ending_in_time() -> Iterator[Ending]:
    """Around an event loop, for who owns the process: once its workers drain, the process ends in time."""
    ending = Ending()
    _endings.append(ending)
    try:
        yield ending
    except BaseException:
        ending.exit_status = 1
        raise
    finally:
        ending.end()


def ends_with(exit_status: int) -> None:
    """The program has come to its end, with this; so does the process, if it has to be ended."""
    for ending in _endings:
        ending.exit_status = exit_status


class _LastWords:
    """A thread that waits to say them: since Python 3.12 none can be started once the main one is done."""

    def __init__(self) -> None:
        self._exit_status: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._say, name="cgworker: the last words", daemon=True)
        self._thread.start()

    def say(self, exit_status: int) -> None:
        """Say them; a thread that goes on may hold the lock of a stream, so nobody waits for long."""
        self._exit_status.put(exit_status)
        self._thread.join(_FLUSHING_SECONDS)

    def _say(self) -> None:
        _say_the_last_words(self._exit_status.get())


def end_process(exit_status: int, last_words: _LastWords | None = None) -> None:
    """End this process now, and what `multiprocessing` has begun in it; never returns."""
    (last_words or _LastWords()).say(exit_status)
    os._exit(exit_status)


def _say_the_last_words(exit_status: int) -> None:
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
    """Processes of `multiprocessing`, which waits for them, or ends them, where a program ends by itself."""
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


def _others_run() -> bool:
    """Whether Python would wait for somebody before it ends."""
    return bool(_children()) or any(
        not thread.daemon and not _is_main(thread) for thread in threading.enumerate()
    )


def _at_the_programs_end() -> threading.Event:
    """Set when the main thread is done. `atexit` comes too late: Python waits for threads before that."""
    done = threading.Event()
    with suppress(RuntimeError):  # it is done already
        threading._register_atexit(done.set)  # type: ignore[attr-defined]  # noqa: SLF001
    return done
