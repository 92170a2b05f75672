"""`FolderStore`: private values in files of this user."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

from cgworker.paths import state_folder
from cgworker.private import make_private_folder, write_private
from cgworker.stores.threads import in_thread

_MAX_READ_AT_ONCE = 64 * 1024  # a thread costs more than such a read
_BINARY = getattr(os, "O_BINARY", 0)  # without it, Windows reads text


class FolderStore:
    """Keeps private values in a folder: files with mode 0600, in folders with mode 0700.

    Workers of one machine share the folder. With a network file system, those of several machines do.

    Args:
        folder: the folder, which is made when it is needed; None is `private` in this user's state folder
            (`$XDG_STATE_HOME/cgworker`).
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self._folder = None if folder is None else Path(folder).expanduser()

    def __repr__(self) -> str:
        return f"FolderStore({str(self._folder) if self._folder else ''!r})"

    @property
    def folder(self) -> Path:
        """The folder.

        Raises:
            UsageError: none was given, XDG_STATE_HOME is not set, and there is no home folder.
        """
        return self._folder or state_folder("private")

    async def put(self, name: str, data: bytes) -> None:
        """Write data to a file, and sync it to the disk.

        Args:
            name: the name.
            data: the data.

        Raises:
            OSError: the file cannot be written.
        """
        await in_thread(partial(_write, self.folder / name, data))

    async def get(self, name: str) -> bytes | None:
        """Return the data in a file; None if there is no such file.

        Args:
            name: the name.

        Raises:
            OSError: the file cannot be read.
        """
        path = f"{self.folder}/{name}"  # pathlib and buffered files would take three times as long
        try:
            descriptor = os.open(path, os.O_RDONLY | _BINARY)
        except FileNotFoundError:
            return None
        try:
            size = os.fstat(descriptor).st_size
            if size <= _MAX_READ_AT_ONCE:
                return os.read(descriptor, size)
        finally:
            os.close(descriptor)
        return await in_thread(partial(_read, path))

    async def names(self, prefix: str) -> list[str]:
        """Return the names of a turn's files.

        Args:
            prefix: the part of the names that stands for the turn.

        Raises:
            OSError: the folder cannot be read.
        """
        return await in_thread(partial(_names, self.folder / prefix, prefix))

    async def delete(self, prefix: str) -> None:
        """Remove the files of a turn.

        Args:
            prefix: the part of the names that stands for the turn.

        Raises:
            OSError: one cannot be removed.
        """
        await in_thread(partial(_remove, self.folder / prefix))


def _write(path: Path, data: bytes) -> None:
    make_private_folder(path.parent)
    write_private(path, data, sync=True)


def _read(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None


def _names(folder: Path, prefix: str) -> list[str]:
    try:
        return [f"{prefix}/{each.name}" for each in folder.iterdir()]
    except FileNotFoundError:
        return []


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
