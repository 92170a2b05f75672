"""Files in which several results wait together, since it is the disk that takes time.

A result is a line, and another line strikes it when the kernel has it. A file appears whole, by a rename,
and from then on only grows: what was read of it need not be read again. So several processes share a folder
without talking to each other, and whoever strikes a file's last result removes it. A strike that is lost, as
two at once may be on a network folder, leaves a file behind and nothing else.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from attrs import define, field

from cgworker.lease import monotonic
from cgworker.wire.converter import dumps, loads

SUFFIX = ".group"

Stored = dict[str, Any]
"""A result as it stands on the disk."""


@define
class _File:
    """What of a file is known: up to where, and by fingerprint the results that are not struck, as lines.

    One that could not be read the last time is not whole: there may be more in it.
    """

    size: int = 0
    is_whole: bool = False
    results: dict[str, bytes] = field(factory=dict)


class BatchFiles:
    """The shared files of a folder. Made by `batch_files_in`; safe to be used by several threads.

    Args:
        folder: which; it need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, _File] = {}
        self._others: frozenset[str] = frozenset()
        self._scanned_at = -math.inf
        self._lock = threading.Lock()

    def find(self, fingerprint: str, *, since: float = math.inf) -> tuple[Path, Stored] | None:
        """The result of a turn that waits in one of the files, and in which.

        Args:
            since: if the folder was looked at after this instant of `lease.monotonic`, that is enough.
        """
        with self._lock:
            for name, file in self._scan(since).items():
                if fingerprint in file.results:
                    return self._folder / name, read_line(file.results[fingerprint])
        return None

    def waiting(self) -> list[tuple[Path, list[Stored]]]:
        """All files, with what waits in each."""
        with self._lock:
            return [
                (self._folder / name, [read_line(line) for line in file.results.values()])
                for name, file in self._scan().items()
            ]

    def has_file(self, name: str, *, since: float = math.inf) -> bool:
        """Whether another file of this name is in the folder; `since` as above."""
        with self._lock:
            self._scan(since)
            return name in self._others

    def _scan(self, since: float = math.inf) -> dict[str, _File]:
        """The files as they are now; what is known of those that are gone is forgotten."""
        if self._scanned_at < since:
            self._scanned_at = monotonic()
            names = _names_in(self._folder)
            self._known = {name: self._read(name) for name in names if name.endswith(SUFFIX)}
            self._others = frozenset(names) - self._known.keys()
        return self._known

    def remember(self, path: Path, results: Mapping[str, bytes]) -> None:
        """A file was written here, with these lines by fingerprint: it need not be read."""
        with self._lock:
            self._known[path.name] = _File(sum(map(len, results.values())), True, dict(results))

    def mark_delivered(self, path: Path, fingerprints: Collection[str]) -> None:
        """The kernel has these results of a file. It need not be on the disk: a closed turn is never claimed
        again."""
        with self._lock:
            known = self._known.get(path.name)
            are_all = known is not None and known.is_whole and not known.results.keys() - fingerprints
            if are_all:
                del self._known[path.name]
        if are_all or (_append_delivered(path, fingerprints) and self._are_all_delivered(path)):
            path.unlink(missing_ok=True)

    def _are_all_delivered(self, path: Path) -> bool:
        """Whether nothing waits in the file any more, whoever struck it."""
        with self._lock:
            file = self._read(path.name)
        return file.is_whole and not file.results

    def delivered(self) -> list[Path]:
        """The files in which nothing waits any more, but which nobody has removed."""
        with self._lock:
            files = self._scan().items()
            return [self._folder / name for name, file in files if file.is_whole and not file.results]

    def _read(self, name: str) -> _File:
        """What the file says, of which only the new part is read; where that fails, what is known stands."""
        known = self._known.get(name) or _File()
        path = self._folder / name
        try:
            if path.stat().st_size > known.size:
                with path.open("rb") as file:
                    file.seek(known.size)
                    _read_lines(known, file.read())
            known.is_whole = True
        except FileNotFoundError:
            return _File()
        except OSError:
            known.is_whole = False
        return known


def _append_delivered(path: Path, fingerprints: Iterable[str]) -> bool:
    """Whether the file was there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        return False
    lines = b"".join(dumps({"delivered": fingerprint}) + b"\n" for fingerprint in fingerprints)
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"\n" + lines)  # what stands there before may be torn
    return True


def _read_lines(known: _File, data: bytes) -> None:
    """Read the whole lines; half a one may still grow."""
    end = data.rfind(b"\n") + 1
    known.size += end
    for line in data[:end].splitlines():
        stored = read_line(line)
        if "delivered" in stored:
            known.results.pop(str(stored["delivered"]), None)
        elif "fingerprint" in stored:
            known.results[str(stored["fingerprint"])] = line


def read_line(line: bytes) -> Stored:
    """A line; nothing if it was torn, as by a crash while it was appended."""
    try:
        stored = loads(line)
    except (ValueError, RecursionError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _names_in(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except OSError:
        return []


@lru_cache(maxsize=64)
def batch_files_in(folder: Path) -> BatchFiles:
    """The shared files of a folder; workers of a process know together what they have read."""
    return BatchFiles(folder)
