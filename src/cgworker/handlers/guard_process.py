"""The program of the guard: run as a file by `python -I -S`, with the standard library only (see guard.py).

Reads one JSON object a line from its standard input:

    {"group": 7, "warn_at": 91.5, "end_at": 92.0}   a process group, and when its lease ends
    {"gone": 7}                                     the group has ended; another may get its id
    {"folder": "/tmp/x"}                            a folder to remove when the worker has ended
    {"remove": "/tmp/x"}                            a folder to remove now

A group whose lease is not renewed gets SIGTERM at `warn_at` and SIGKILL at `end_at`. The input ends when the
worker ends, in any way; the guard then ends all groups and removes the folders.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any

_POLL_SECONDS = 1.0  # select() does not count the time that a machine is suspended, _now() does
_GATHER_SECONDS = 0.01  # one wake-up for several lines of a busy worker
_GRACE_SECONDS = 2.0
_STDIN = 0


class GuardedGroups:
    """The groups, each with its pending signals, and the folders.

    Attributes:
        groups: for each group, instants of the clock with the signal to send then.
        folders: the folders to remove when the worker has ended.
    """

    def __init__(self) -> None:
        self.groups: dict[int, list[tuple[float, int]]] = {}
        self.folders: set[str] = set()
        self._remover: FolderRemover | None = None

    def take(self, fact: dict[str, Any]) -> None:
        """Take one line of the worker.

        Args:
            fact: the JSON object.
        """
        match fact:
            case {"group": int(group), "warn_at": warn_at, "end_at": end_at}:
                steps = ((warn_at, signal.SIGTERM), (end_at, signal.SIGKILL))
                self.groups[group] = [(at, number) for at, number in steps if at is not None]
            case {"gone": int(group)}:
                self.groups.pop(group, None)
            case {"folder": str(folder)}:
                self.folders.add(folder)
            case {"remove": str(folder)}:
                self.folders.discard(folder)
                self._remover = self._remover or FolderRemover()
                self._remover.remove(folder)

    def seconds_to_next(self) -> float | None:
        """Return the seconds until the next signal, at most one; None if no signal is pending."""
        instants = [at for steps in self.groups.values() for at, _ in steps]
        return min(_POLL_SECONDS, max(0.0, min(instants) - _now())) if instants else None

    def seconds_to_gather(self) -> float:
        """Return how long to wait for more lines after one, without delaying a signal."""
        until_next = self.seconds_to_next()
        return _GATHER_SECONDS if until_next is None else min(_GATHER_SECONDS, until_next)

    def signal_late(self) -> None:
        """Send the signals that are due, to groups whose lease was not renewed."""
        for group, steps in self.groups.items():
            while steps and steps[0][0] <= _now():
                _signal(group, steps.pop(0)[1])

    def end(self) -> None:
        """End all groups and remove all folders, after the worker's end."""
        deadline = _now() + _GRACE_SECONDS
        for group in self.groups:
            _signal(group, signal.SIGTERM)
        while any(_signal(group, 0) for group in self.groups) and _now() < deadline:
            time.sleep(0.02)
        for group in self.groups:
            _signal(group, signal.SIGKILL)
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)
        if self._remover is not None:
            self._remover.end()


class FolderRemover:
    """Removes folders in a thread, so that a large one does not delay a signal."""

    def __init__(self) -> None:
        self._folders: SimpleQueue[str | None] = SimpleQueue()
        self._thread = Thread(target=self._remove_all)
        self._thread.start()

    def remove(self, folder: str) -> None:
        """Remove a folder after those before it.

        Args:
            folder: its path.
        """
        self._folders.put(folder)

    def end(self) -> None:
        """Wait until all folders are removed."""
        self._folders.put(None)
        self._thread.join()

    def _remove_all(self) -> None:
        while (folder := self._folders.get()) is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _now() -> float:
    """Read the clock of cgworker.lease.monotonic, which the worker's instants belong to."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _signal(group: int, number: int) -> bool:
    """Send a signal to a group; return whether it has processes."""
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True


def _lines(guarded: GuardedGroups) -> Iterator[bytes]:
    """Yield the worker's lines as they come, and send the signals that are due in between."""
    rest = b""
    while True:
        if select.select([_STDIN], [], [], guarded.seconds_to_next())[0]:
            time.sleep(guarded.seconds_to_gather())
            chunk = os.read(_STDIN, 65536)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
        guarded.signal_late()


def main() -> None:
    """Guard until the worker ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    guarded = GuardedGroups()
    for line in _lines(guarded):
        with suppress(ValueError):
            guarded.take(json.loads(line))
    guarded.end()


if __name__ == "__main__":
    main()
