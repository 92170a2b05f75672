"""The guard's own program: run as a file by `python -I -S`, with the standard library only (see guard.py).

Reads one JSON object a line from its standard input:

    {"group": 7, "warn_at": 91.5, "end_at": 92.0}   a process group, and when the lease it works under ends
    {"gone": 7}                                     the group is gone; its number may be a stranger's now
    {"folder": "/tmp/x"}                            a folder to remove when the worker is gone
    {"remove": "/tmp/x"}                            a folder to remove now

A group whose lease ends without news gets SIGTERM, then SIGKILL. At the end of its input, which is the end
of the worker, however it came about, it ends all groups and then removes the folders.
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

_LOOK_SECONDS = 1.0  # select() does not count the time a machine sleeps, the clock above does
_GATHER_SECONDS = 0.01  # a busy worker need not wake us for each line; a pipe holds what it says meanwhile
_GRACE_SECONDS = 2.0
_STDIN = 0


class GuardedGroups:
    """What the guard was told of: groups with their signals to come, and folders."""

    def __init__(self) -> None:
        self.groups: dict[int, list[tuple[float, int]]] = {}
        self.folders: set[str] = set()
        self._remover: FolderRemover | None = None

    def take(self, told: dict[str, Any]) -> None:
        """One line of the worker's."""
        match told:
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
        """How long nothing is to be done, unless there is news; None for ever."""
        instants = [at for steps in self.groups.values() for at, _ in steps]
        return min(_LOOK_SECONDS, max(0.0, min(instants) - _now())) if instants else None

    def seconds_to_gather(self) -> float:
        """How long to wait for more lines after one: no group lives longer for it."""
        until_next = self.seconds_to_next()
        return _GATHER_SECONDS if until_next is None else min(_GATHER_SECONDS, until_next)

    def signal_late(self) -> None:
        """Send what is due to groups whose lease was not extended."""
        for group, steps in self.groups.items():
            while steps and steps[0][0] <= _now():
                _signal(group, steps.pop(0)[1])

    def end(self) -> None:
        """The worker is gone: so are its commands, and then its folders, within seconds."""
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
    """Removes folders in a thread: a large one must not keep a late group waiting."""

    def __init__(self) -> None:
        self._folders: SimpleQueue[str | None] = SimpleQueue()
        self._thread = Thread(target=self._remove_all)
        self._thread.start()

    def remove(self, folder: str) -> None:
        """After those before it."""
        self._folders.put(folder)

    def end(self) -> None:
        """Once all are removed."""
        self._folders.put(None)
        self._thread.join()

    def _remove_all(self) -> None:
        while (folder := self._folders.get()) is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _now() -> float:
    """The clock of cgworker.lease.monotonic, which the worker's instants are read from."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _signal(group: int, number: int) -> bool:
    """Whether there was somebody to signal."""
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True


def _news(charge: GuardedGroups) -> Iterator[bytes]:
    """The worker's lines, as they come; whoever is late is ended between them."""
    rest = b""
    while True:
        if select.select([_STDIN], [], [], charge.seconds_to_next())[0]:
            time.sleep(charge.seconds_to_gather())
            chunk = os.read(_STDIN, 65536)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
        charge.signal_late()


def main() -> None:
    """Guard until the worker is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    charge = GuardedGroups()
    for line in _news(charge):
        with suppress(ValueError):
            charge.take(json.loads(line))
    charge.end()


if __name__ == "__main__":
    main()
