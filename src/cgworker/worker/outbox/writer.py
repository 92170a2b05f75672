"""Write results in a thread beside the event loop, those that wait at one moment together.

A result that is dropped before its write begins is never written; one that is dropped later is removed
again. Nobody waits for either: only `wait` does, and whoever calls it needs the result on the disk.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from attrs import define, frozen

from cgworker.events import logger
from cgworker.lease import monotonic

_IDLE_SECONDS = 10.0


@frozen
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
        is_dropped: whether the result is no longer needed.
        path: its file, once the result is on the disk.
        error: why it could not be written.
    """

    result: ResultLine
    due_at: float
    is_dropped: bool = False
    path: Path | None = None
    error: Exception | None = None

    @property
    def is_over(self) -> bool:
        """Whether the result is on the disk, or could not be written."""
        return self.path is not None or self.error is not None


WriteAll: TypeAlias = Callable[[Sequence[ResultLine]], Sequence[Path | Exception]]
RemoveAll: TypeAlias = Callable[[Sequence[tuple[Path, str]]], None]


class OutboxWriter:
    """Writes and removes results, in one thread at a time, which ends when there was nothing for a while.

    Args:
        write_all: writes results and syncs them; returns the file of each, or why it could not be written.
        remove_all: removes results, each given by its file and its fingerprint.
    """

    def __init__(self, write_all: WriteAll, remove_all: RemoveAll) -> None:
        self._write_all = write_all
        self._remove_all = remove_all
        self._changed = threading.Condition()
        self._waiting: deque[PendingWrite] = deque()
        self._unneeded: list[PendingWrite] = []
        self._is_working = False
        self._thread: threading.Thread | None = None

    def begin(self, result: ResultLine, delay_seconds: float = 0.0) -> PendingWrite:
        """Begin to write a result, and return its write.

        Args:
            result: the result.
            delay_seconds: begin after so many seconds, unless somebody waits for the result before.

        Raises:
            RuntimeError: no thread could be started.
        """
        write = PendingWrite(result, monotonic() + delay_seconds if delay_seconds else -math.inf)
        with self._changed:
            self._wake()
            self._waiting.append(write)
        return write

    def drop(self, write: PendingWrite) -> None:
        """Note that a result is no longer needed. It is removed, if it is or gets on the disk."""
        with self._changed:
            write.is_dropped = True
            if write.path is not None:
                self._unneeded.append(write)
                with suppress(RuntimeError):  # no thread could be started: the next one does it
                    self._wake()

    def wait(self, write: PendingWrite) -> None:
        """Block until the write of a result that was not dropped is over; a delay ends now."""
        with self._changed:
            write.due_at = -math.inf
            self._changed.notify_all()
            self._changed.wait_for(lambda: write.is_over)

    def flush(self, seconds: float) -> bool:
        """Block until nothing is left to be done, so many seconds at most; return whether that is so."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not (self._waiting or self._unneeded or self._is_working), timeout=seconds
            )

    def _wake(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="cgworker: outbox", daemon=True)
            thread.start()  # before it is kept: it may fail
            self._thread = thread
        else:
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
        except Exception as broken:  # whoever waits for a result must hear of it
            return [broken for _ in results]

    def _remove(self, unneeded: Sequence[PendingWrite]) -> None:
        try:
            found = [(write.path, write.result.fingerprint) for write in unneeded if write.path is not None]
            self._remove_all(found)
        except Exception:
            logger.exception("results that the kernel has could not be removed")

    def _next(self) -> tuple[list[PendingWrite], list[PendingWrite]] | None:
        """Wait for work and take it: what is to be written and removed; None if there was none for long."""
        with self._changed:
            self._is_working = False
            self._changed.notify_all()
            while True:
                due, seconds = self._take_due()
                if due or self._unneeded:
                    unneeded, self._unneeded = self._unneeded, []
                    self._is_working = True
                    return due, unneeded
                if not self._changed.wait(seconds) and not self._waiting and not self._unneeded:
                    self._thread = None
                    return None

    def _take_due(self) -> tuple[list[PendingWrite], float]:
        """Take the writes that are due, and return them with the seconds until the next one is."""
        now = monotonic()
        wanted = [write for write in self._waiting if not write.is_dropped]
        due = [write for write in wanted if write.due_at <= now]
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
                    self._unneeded.append(write)
            self._changed.notify_all()
