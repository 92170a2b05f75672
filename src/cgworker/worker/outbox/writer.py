"""Write results in a thread beside the event loop; results that wait at the same time are written together.

A result that is dropped before its write begins is never written; one that is dropped later is removed
again. Only `wait` blocks, for callers that need the result on the disk.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from attrs import define

from cgworker.events import logger
from cgworker.lease import monotonic

_IDLE_SECONDS = 10.0
_REMOVE_AFTER_SECONDS = (
    0.05  # by then the others of the file are mostly dropped too, and it can go as a whole
)


@define(eq=False)
class ResultLine:
    """A result to be written, as a line of JSON, and what its file is called if it does not share one."""

    own_name: str
    fingerprint: str
    line: bytes


@define(eq=False)
class PendingWrite:
    """The write of one result. The writer's lock guards all of it.

    Attributes:
        result: the result.
        due_at: when the write is to begin, on `lease.monotonic`.
        is_begun: whether the write has begun.
        is_dropped: whether the result is no longer needed.
        path: its file, once the result is on the disk.
        error: why it could not be written.
    """

    result: ResultLine
    due_at: float
    is_begun: bool = False
    is_dropped: bool = False
    path: Path | None = None
    error: Exception | None = None

    @property
    def is_over(self) -> bool:
        """Whether the result is on the disk, could not be written, or is never going to be."""
        return self.path is not None or self.error is not None or (self.is_dropped and not self.is_begun)


WriteAll: TypeAlias = Callable[[Sequence[ResultLine]], Sequence[Path | Exception]]
RemoveAll: TypeAlias = Callable[[Sequence[tuple[Path, str]]], None]


class OutboxWriter:
    """Writes and removes results, in one thread at a time, which ends when it has been idle for a while.

    Args:
        write_all: writes results and syncs them; returns the file of each, or why it could not be written.
        remove_all: removes results, each given by its file and its fingerprint.
    """

    def __init__(self, write_all: WriteAll, remove_all: RemoveAll) -> None:
        self._write_all = write_all
        self._remove_all = remove_all
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting: deque[PendingWrite] = deque()
        self._unneeded: list[PendingWrite] = []
        self._remove_at = -math.inf
        self._is_working = False
        self._is_asleep = False
        self._thread: threading.Thread | None = None

    def begin(self, result: ResultLine, delay_seconds: float = 0.0) -> PendingWrite:
        """Begin to write a result, and return its write.

        Args:
            result: the result.
            delay_seconds: begin after so many seconds, or as soon as a caller waits for the result.

        Raises:
            RuntimeError: no thread could be started.
        """
        write = PendingWrite(result, monotonic() + delay_seconds if delay_seconds else -math.inf)
        with self._lock:
            self._wake()
            self._waiting.append(write)
        return write

    def drop(self, write: PendingWrite) -> None:
        """Note that a result is no longer needed. It is removed soon, if it is or gets on the disk."""
        with self._lock:
            write.is_dropped = True
            if write.path is not None and self._remove_soon(write):
                with suppress(RuntimeError):  # no thread could be started: the next one does it
                    self._wake()

    def _remove_soon(self, write: PendingWrite) -> bool:
        """Let a result wait for its removal, and return whether it is the first to wait."""
        self._unneeded.append(write)
        if len(self._unneeded) > 1:
            return False
        self._remove_at = monotonic() + _REMOVE_AFTER_SECONDS
        return True

    def wait(self, write: PendingWrite) -> None:
        """Block until the write of a result that was not dropped is over; a delay ends now."""
        with self._changed:
            write.due_at = -math.inf
            self._changed.notify_all()
            self._changed.wait_for(lambda: write.is_over)

    def flush(self, seconds: float) -> bool:
        """Block until nothing is left to be done, so many seconds at most; return whether that is so."""
        with self._changed:
            self._remove_at = -math.inf
            self._changed.notify_all()
            return self._changed.wait_for(
                lambda: not (self._waiting or self._unneeded or self._is_working), timeout=seconds
            )

    def _wake(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="cgworker: outbox", daemon=True)
            thread.start()  # before it is kept: it may fail
            self._thread = thread
        elif self._is_asleep:
            self._is_asleep = False  # it need not be told twice
            self._changed.notify_all()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            due, unneeded = work
            if unneeded:
                self._remove(unneeded)
            if due:
                self._finish(due, self._write([write.result for write in due]))

    def _write(self, results: Sequence[ResultLine]) -> Sequence[Path | Exception]:
        try:
            return self._write_all(results)
        except Exception as broken:  # the callers that wait for a result must get the error
            return [broken for _ in results]

    def _remove(self, unneeded: Sequence[PendingWrite]) -> None:
        try:
            found = [(write.path, write.result.fingerprint) for write in unneeded if write.path is not None]
            self._remove_all(found)
        except Exception:
            logger.exception("results that the kernel has could not be removed")

    def _next(self) -> tuple[list[PendingWrite], list[PendingWrite]] | None:
        """Wait for results to write and remove, and take them; None if there were none for a while."""
        with self._changed:
            self._is_working = False
            self._changed.notify_all()
            while True:
                now = monotonic()
                due, seconds = self._take_due(now)
                unneeded, to_removal = self._take_unneeded(now)
                if due or unneeded:
                    self._is_working = True
                    return due, unneeded
                if not (self._waiting or self._unneeded):
                    self._changed.notify_all()  # `flush` may wait for what was dropped
                seconds = min(seconds, to_removal)
                self._is_asleep = True
                was_woken = self._changed.wait(seconds)
                self._is_asleep = False
                if not was_woken and not self._waiting and not self._unneeded:
                    self._thread = None
                    return None

    def _take_unneeded(self, now: float) -> tuple[list[PendingWrite], float]:
        """Take what is to be removed now, and return it with the seconds until the rest is to be."""
        if not self._unneeded or now < self._remove_at:
            return [], self._remove_at - now if self._unneeded else math.inf
        taken, self._unneeded = self._unneeded, []
        return taken, math.inf

    def _take_due(self, now: float) -> tuple[list[PendingWrite], float]:
        """Take the writes that are due, and return them with the seconds until the next one is."""
        wanted = [write for write in self._waiting if not write.is_dropped]
        due = [write for write in wanted if write.due_at <= now]
        for write in due:
            write.is_begun = True
        self._waiting = deque(write for write in wanted if write.due_at > now)
        return due, min((write.due_at - now for write in self._waiting), default=_IDLE_SECONDS)

    def _finish(self, due: Sequence[PendingWrite], written: Sequence[Path | Exception]) -> None:
        with self._changed:
            for write, found in zip(due, written, strict=True):
                if isinstance(found, Exception):
                    write.error = found
                    continue
                write.path = found
                if write.is_dropped:
                    self._remove_soon(write)
            self._changed.notify_all()
