"""The temporary folders of commands: made, emptied for the next turn, and removed (see guard.py)."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cgworker.errors import UsageError
from cgworker.handlers.guard import guard

CONTEXT = "context.json"
INPUT = "input.json"
MESSAGES = "messages.jsonl"

_PREFIX = "cg_worker_adapter_"
_PRIVATE_FOLDER = stat.S_IFDIR | 0o700
_PRIVATE_FILE = stat.S_IFREG | 0o600
_MAX_ENTRIES = 16  # of a folder that is emptied here and not removed by the guard
_MAX_BYTES = 64 * 1024  # of each of its files


class _Unfit(Exception):
    """A folder cannot be used again."""


class TurnFolders:
    """Temporary folders of turns, in one folder of this process; a new turn gets an emptied one.

    On ext4 a new file or folder costs the more, the more were removed in the last minutes, and a turn has
    four: with many turns a second that is most of a turn's system time. The files that the worker writes are
    kept, with one byte; a length of zero would make ext4 write the next content to the disk at once.
    """

    def __init__(self) -> None:
        self._all = ExitStack()
        self._parent: Path | None = None
        self._spare: list[str] = []
        self._made_count = 0

    def take(self) -> str:
        """Return the path of a folder of mode 0700 that is empty but for files that the worker writes.

        Raises:
            OSError: it cannot be made.
        """
        while self._spare:
            if os.path.isdir(folder := self._spare.pop()):  # noqa: PTH112  # quicker
                return folder
        try:
            return self._new()
        except FileNotFoundError:  # somebody tidied up
            self._parent = None
            return self._new()

    def give_back(self, folder: str) -> None:
        """Let no process find a folder any more at its path, and keep it for another turn or remove it.

        Args:
            folder: its path.
        """
        spare = self._next_path()
        try:
            os.rename(folder, spare)  # noqa: PTH104  # texts
            _empty(spare)
            self._spare.append(spare)
        except (_Unfit, OSError):
            for path in (folder, spare):
                guard.remove(path)

    def close(self) -> None:
        """Remove all folders."""
        self._all.close()

    def _new(self) -> str:
        if self._parent is None:
            self._parent = self._all.enter_context(temporary_folder("cg_worker_folders_"))
        folder = self._next_path()
        os.mkdir(folder, 0o700)  # noqa: PTH102  # texts
        return folder

    def _next_path(self) -> str:
        self._made_count += 1
        return f"{self._parent}{os.sep}{_PREFIX}{self._made_count}"


def _empty(folder: str) -> None:
    """Empty a folder, but for files that only the worker has written.

    Raises:
        _Unfit: it has too much in it, or its mode is another one.
        OSError: something cannot be removed.
    """
    if os.lstat(folder).st_mode != _PRIVATE_FOLDER:
        raise _Unfit
    with os.scandir(folder) as entries:
        found = list(entries)
    if len(found) > _MAX_ENTRIES:
        raise _Unfit
    for entry in found:
        status = entry.stat(follow_symlinks=False)
        if status.st_size > _MAX_BYTES:
            raise _Unfit
        is_untouched = status.st_mode == _PRIVATE_FILE and status.st_nlink == 1
        if is_untouched and status.st_size == 0 and entry.name == MESSAGES:
            continue
        if is_untouched and status.st_size > 0 and entry.name in (CONTEXT, INPUT):
            os.truncate(entry.path, 1)
        else:
            os.unlink(entry.path)  # noqa: PTH108  # texts


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Make a folder with mode 0700, and remove it after the block, even if this process is killed.

    Args:
        prefix: the beginning of its name.

    Raises:
        OSError: it cannot be made.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    with guard.removing(folder):
        yield folder


def temporary_files() -> Path:
    """Return the folder for temporary files.

    Raises:
        UsageError: there is none that can be written.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as none:
        raise UsageError(f"{none.strerror}; set TMPDIR, or --work-dir, to one that can be written") from none
