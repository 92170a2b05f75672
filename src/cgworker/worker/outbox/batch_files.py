"""Files that hold several results each, because one sync of the disk for all of them is faster.

A result is a line; another line marks it as delivered. A file appears complete, by a rename, and from then on
only grows, so what was read of it need not be read again. Several processes can share a folder without any
other coordination: the process that marks the last result removes the file. A mark that is lost, as when two
are written at once on a network folder, leaves a file behind and does no other harm.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from attrs import define, field

from cgworker.lease import monotonic
from cgworker.wire.converter import dumps, loads

SUFFIX = ".group"

Stored = dict[str, Any]
"""A result as it is stored: a JSON object."""


@define
class _File:
    """What has been read of a file.

    Attributes:
        size: how many bytes were read.
        is_whole: whether the last read succeeded; if not, there may be more in the file.
        results: where the lines of undelivered results are, by fingerprint: from which byte to which.
    """

    size: int = 0
    is_whole: bool = False
    results: dict[str, tuple[int, int]] = field(factory=dict)


class BatchFiles:
    """The shared files of a folder. Made by `batch_files_in`; safe to use from several threads.

    Args:
        folder: the folder, which need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, _File] = {}
        self._others: frozenset[str] = frozenset()
        self._scanned_at = -math.inf
        self._lock = threading.Lock()

    def may_have(self, name: str, fingerprint: str, *, since: float = math.inf) -> bool:
        """Whether the folder has a file of this name, or a result of this turn; `since` as in `find`."""
        with self._lock:
            files = self._known if self._scanned_at >= since else self._scan(since)
            for file in files.values():
                if fingerprint in file.results:
                    return True
            return name in self._others

    def find(self, fingerprint: str, *, since: float = math.inf) -> tuple[Path, Stored] | None:
        """Find the undelivered result of a turn, and the file that holds it.

        Args:
            fingerprint: the turn's fingerprint.
            since: a scan of the folder after this instant of `lease.monotonic` is used again; by default the
                folder is scanned now.
        """
        with self._lock:
            for name, file in self._scan(since).items():
                if fingerprint in file.results:
                    path = self._folder / name
                    return path, _read_result(path, file.results[fingerprint])
        return None

    def waiting(self) -> list[tuple[Path, list[Stored]]]:
        """Return all files, each with its undelivered results."""
        with self._lock:
            return [
                (path := self._folder / name, [_read_result(path, place) for place in file.results.values()])
                for name, file in self._scan().items()
            ]

    def has_file(self, name: str, *, since: float = math.inf) -> bool:
        """Whether the folder has another file, not a shared one, of this name; `since` as in `find`."""
        with self._lock:
            self._scan(since)
            return name in self._others

    def _scan(self, since: float = math.inf) -> dict[str, _File]:
        """Return the files as they are now, and forget those that are gone."""
        if self._scanned_at < since:
            self._scanned_at = monotonic()
            names = _names_in(self._folder)
            self._known = {name: self._read(name) for name in names if name.endswith(SUFFIX)}
            self._others = frozenset(names) - self._known.keys()
        return self._known

    def remember(self, path: Path, lines: Iterable[tuple[str, bytes]]) -> None:
        """Remember a file that this process wrote, so that it need not be read.

        Args:
            path: the file.
            lines: the fingerprint and the line of each of its results, in order.
        """
        known = _File(is_whole=True)
        for fingerprint, line in lines:
            known.results[fingerprint] = known.size, known.size + len(line)
            known.size += len(line)
        with self._lock:
            self._known[path.name] = known

    def mark_delivered(self, path: Path, fingerprints: Collection[str]) -> None:
        """Mark results of a file as delivered, and remove the file if none is left.

        The mark is not synced: a closed turn is never claimed again.
        """
        with self._lock:
            known = self._known.get(path.name)
            are_all = known is not None and known.is_whole and not known.results.keys() - fingerprints
            if are_all:
                del self._known[path.name]
        if are_all or (_append_delivered(path, fingerprints) and self._are_all_delivered(path)):
            path.unlink(missing_ok=True)

    def _are_all_delivered(self, path: Path) -> bool:
        """Whether the file holds no undelivered result, whichever process has marked them."""
        with self._lock:
            file = self._read(path.name)
        return file.is_whole and not file.results

    def delivered(self) -> list[Path]:
        """Return the files without an undelivered result that no process has removed."""
        with self._lock:
            files = self._scan().items()
            return [self._folder / name for name, file in files if file.is_whole and not file.results]

    def _read(self, name: str) -> _File:
        """Read the new part of a file. If that fails, keep what was read before."""
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
    """Append marks to a file; False if the file is gone."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        return False
    lines = b"".join(dumps({"delivered": fingerprint}) + b"\n" for fingerprint in fingerprints)
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"\n" + lines)  # the line before may be incomplete
    return True


def _read_lines(known: _File, data: bytes) -> None:
    """Take in complete lines only: the last one may still grow."""
    begin, lines = known.size, data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
    for line in lines:
        end = begin + len(line)
        stored = read_line(line)
        if "delivered" in stored:
            known.results.pop(str(stored["delivered"]), None)
        elif "fingerprint" in stored:
            known.results[str(stored["fingerprint"])] = begin, end
        begin = end
    known.size = begin


def _read_result(path: Path, place: tuple[int, int]) -> Stored:
    """Read one result of a file; empty if the file is gone, since another process has delivered it."""
    begin, end = place
    try:
        with path.open("rb") as file:
            file.seek(begin)
            return read_line(file.read(end - begin))
    except OSError:
        return {}


def read_line(line: bytes) -> Stored:
    """Parse a line; empty if it is incomplete, as after a crash while it was appended."""
    try:
        stored = loads(line.rstrip(b"\n"))  # compact JSON alone is surely read by the quick parser
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
    """Return the shared files of a folder; the workers of a process share what was read of them."""
    return BatchFiles(folder)
