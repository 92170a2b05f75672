"""Write the files of an outbox, and remove them.

A result has a file named after its turn's fingerprint. Results that are written at the same moment share a
file (batch_files.py), unless they are very large. Files appear by a rename, so a file is either complete or
absent. One sync of the folder makes all files of a moment durable.
"""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from cgworker.errors import CommonGroundError
from cgworker.events import logger
from cgworker.handlers.files import make_private_folder
from cgworker.lease import monotonic
from cgworker.private import write_private
from cgworker.worker.outbox.batch_files import SUFFIX, BatchFiles
from cgworker.worker.outbox.writer import ResultLine

_COUNT_SECONDS = 1.0
_MAX_SHARED_BYTES = 1024 * 1024  # the room that a delivered result takes until those beside it are delivered


class OutboxFull(CommonGroundError):
    """The outbox has reached its size limit: deliver its results, or remove dead letters from it."""

    code = "outbox_full"


class OutboxFiles:
    """The files of an outbox. Safe to use from several threads.

    Args:
        folder: the folder of the outbox, which is made when needed, with mode 0700.
        dead_letters: the folder of the results that can no longer be delivered.
        shared: the files of the folder that hold several results.
        max_bytes: the most bytes that both may hold. Dead letters are removed first when they are full.
    """

    def __init__(self, folder: Path, dead_letters: Path, shared: BatchFiles, *, max_bytes: int) -> None:
        self._folder = folder
        self._dead_letters = dead_letters
        self._shared = shared
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self._counted_at = -math.inf

    # ------------------------------------------------------------ write

    def write_all(self, results: Sequence[ResultLine]) -> list[Path | Exception]:
        """Write results and sync them, in as few files as possible; if that fails, each in its own.

        Returns:
            The file of each result, or why it could not be written.
        """
        try:
            self._make_room(sum(len(result.line) for result in results))
        except (OSError, OutboxFull) as unwritable:
            if len(results) == 1:
                return [unwritable]
            return [found for result in results for found in self.write_all([result])]
        written: dict[str, Path | Exception] = {}
        for group in _grouped(results):
            written.update(self._write_group(group))
        try:
            _sync_folder(self._folder)
        except OSError as unwritable:
            return [unwritable for _ in results]
        return [written[result.fingerprint] for result in results]

    def _write_group(self, group: Sequence[ResultLine]) -> dict[str, Path | Exception]:
        try:
            path = self._write_file(group)
        except OSError as unwritable:
            if len(group) == 1:
                return {group[0].fingerprint: unwritable}
            alone = [self._write_group([result]) for result in group]
            return {fingerprint: found for each in alone for fingerprint, found in each.items()}
        return {result.fingerprint: path for result in group}

    def _write_file(self, group: Sequence[ResultLine]) -> Path:
        name = group[0].own_name if len(group) == 1 else uuid.uuid4().hex + SUFFIX
        path = self._folder / name
        whole = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            write_private(whole, b"".join(result.line for result in group), sync=True)
            whole.replace(path)
        except OSError:
            with suppress(OSError):
                whole.unlink()
            raise
        if len(group) > 1:
            self._shared.remember(path, ((result.fingerprint, result.line) for result in group))
        return path

    def _make_room(self, needed: int) -> None:
        """Make room for so many bytes, and make the folder. Most results find both as they were a moment ago.

        Other processes may write there too, so what is there is counted anew after a second.
        """
        is_known = monotonic() - self._counted_at < _COUNT_SECONDS
        if not is_known or self._used_bytes + needed > self._max_bytes or not self._folder.is_dir():
            make_private_folder(self._folder)
            self._used_bytes = self._freed(needed)
            self._counted_at = monotonic()
        self._used_bytes += needed

    def _freed(self, needed: int) -> int:
        """Remove dead letters until there is room for so many bytes, and return how many are used then."""
        kept = _files_in(self._dead_letters)
        used = sum(file.size for file in [*_files_in(self._folder), *kept])
        for file in sorted(kept, key=lambda file: file.changed_at):
            if used + needed <= self._max_bytes:
                break
            file.path.unlink(missing_ok=True)
            used -= file.size
        if used + needed > self._max_bytes:
            raise OutboxFull(f"{self._folder} holds {used} bytes; {needed} more are over {self._max_bytes}")
        return used

    # ------------------------------------------------------------ remove

    def remove_all(self, results: Sequence[tuple[Path, str]]) -> None:
        """Remove results, each given by its file and its fingerprint. What fails is logged."""
        by_file: dict[Path, list[str]] = {}
        for path, fingerprint in results:
            by_file.setdefault(path, []).append(fingerprint)
        for path, fingerprints in by_file.items():
            try:
                if path.suffix == SUFFIX:
                    self._shared.mark_delivered(path, fingerprints)
                else:
                    path.unlink(missing_ok=True)
            except OSError as unwritable:  # the sweeper finds it later
                logger.warning("%s: what the kernel has could not be removed: %s", path, unwritable)


def _grouped(results: Sequence[ResultLine]) -> list[list[ResultLine]]:
    """Return the results by file: those that share one, and each that is too large for that."""
    small = [result for result in results if len(result.line) <= _MAX_SHARED_BYTES]
    large = [[result] for result in results if len(result.line) > _MAX_SHARED_BYTES]
    return [small, *large] if small else large


@frozen
class _OnDisk:
    """A file with its size and time of change."""

    path: Path
    size: int
    changed_at: float


def _files_in(folder: Path) -> list[_OnDisk]:
    found = []
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # another process delivered it
                if entry.is_file(follow_symlinks=False):
                    told = entry.stat(follow_symlinks=False)
                    found.append(_OnDisk(Path(entry.path), told.st_size, told.st_mtime))
    return found


def _sync_folder(folder: Path) -> None:
    """Sync the folder, so that the renames are durable, where the system can do that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
