"""The temporary folders of commands, which the guard removes if the worker is killed (see guard.py)."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cgworker.errors import UsageError
from cgworker.handlers.guard import guard


class TurnFolders:
    """Temporary folders of turns, in one folder of this process: the guard knows that one, and not each."""

    def __init__(self) -> None:
        self._all = ExitStack()
        self._parent: Path | None = None
        self._made_count = 0

    def new(self) -> str:
        """Make a folder of mode 0700, and return its path.

        Raises:
            OSError: it cannot be made.
        """
        try:
            return self._new()
        except FileNotFoundError:  # somebody tidied up
            self._parent = None
            return self._new()

    def close(self) -> None:
        """Remove all folders."""
        self._all.close()

    def _new(self) -> str:
        if self._parent is None or not _is_own_folder(self._parent):
            self._parent = self._all.enter_context(temporary_folder("cg_worker_folders_"))
        self._made_count += 1
        folder = f"{self._parent}{os.sep}cg_worker_adapter_{self._made_count}"
        os.mkdir(folder, 0o700)  # noqa: PTH102  # texts
        return folder


def _is_own_folder(path: Path) -> bool:
    """Whether it is a folder of this user; after a tidy-up, others may have put something in its place."""
    found = os.lstat(path)
    return stat.S_ISDIR(found.st_mode) and (sys.platform == "win32" or found.st_uid == os.geteuid())


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
