"""`FolderStore`: private values in files of this user."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from cgworker.paths import state_folder
from cgworker.private import make_private_folder, write_private
from cgworker.stores.segments import SUFFIX, Segments, entries, sync_file
from cgworker.stores.threads import in_thread

_MAX_IN_SEGMENT = 32 * 1024  # larger values have files of their own
_MAX_READ_AT_ONCE = 64 * 1024  # a thread costs more than such a read
_BINARY = getattr(os, "O_BINARY", 0)  # without it, Windows reads text


class FolderStore:
    """Keeps private values in a folder: files with mode 0600, in folders with mode 0700.

    Workers of one machine share the folder. With a network file system, those of several machines do. Small
    values of a turn are appended to one file, large ones have files of their own.

    Args:
        folder: the folder, which is made when it is needed; None is `private` in this user's state folder
            (`$XDG_STATE_HOME/cgworker`).
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self._folder = None if folder is None else Path(folder).expanduser()
        self._segments = Segments()

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
        await in_thread(partial(self._put, name, data))

    def _put(self, name: str, data: bytes) -> None:
        path = self.folder / name
        if len(data) > _MAX_IN_SEGMENT:
            _write(path, data)
        else:
            self._segments.sync(*self._segments.append(path.parent, path.name, data))

    def write(self, name: str, data: bytes) -> Callable[[], Awaitable[None]] | None:
        """Write small data at once, so that it outlives this process.

        Args:
            name: the name.
            data: the data.

        Returns:
            Waits until the data is synced to the disk, so that it outlives a power cut; None if the data is
            large, and nothing was written.

        Raises:
            OSError: the file cannot be written.
        """
        if len(data) > _MAX_IN_SEGMENT:
            return None
        turn, _, value = name.rpartition("/")
        written = self._segments.append(self.folder / turn, value, data)
        return partial(in_thread, partial(self._segments.sync, *written))

    async def get(self, name: str) -> bytes | None:
        """Return the data under a name; None if there is none.

        Args:
            name: the name.

        Raises:
            OSError: the file cannot be read.
        """
        if (data := await self.large_value(name)) is not None:
            return data
        return (await self.small_values(name.rpartition("/")[0])).get(name)

    async def large_value(self, name: str) -> bytes | None:
        """Return the data under a name if it has a file of its own; None if not.

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

    async def small_values(self, prefix: str) -> dict[str, bytes]:
        """Return the small values of a turn by their names, read at once.

        Args:
            prefix: the part of the names that stands for the turn.

        Raises:
            OSError: a file cannot be read.
        """
        return await in_thread(partial(_small_values, self.folder / prefix, prefix))

    async def names(self, prefix: str) -> list[str]:
        """Return the names of a turn's values.

        Args:
            prefix: the part of the names that stands for the turn.

        Raises:
            OSError: the folder cannot be read.
        """
        return await in_thread(partial(_names, self.folder / prefix, prefix))

    async def delete(self, prefix: str) -> None:
        """Remove the values of a turn.

        Args:
            prefix: the part of the names that stands for the turn.

        Raises:
            OSError: one cannot be removed.
        """
        self._segments.forget(self.folder / prefix)
        await in_thread(partial(_remove, self.folder / prefix))


def _write(path: Path, data: bytes) -> None:
    make_private_folder(path.parent)
    write_private(path, data)
    sync_file(path)


def _read(path: Path | str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None


def _names(folder: Path, prefix: str) -> list[str]:
    try:
        large = [f"{prefix}/{each.name}" for each in folder.iterdir() if each.suffix != SUFFIX]
    except FileNotFoundError:
        return []
    return [*large, *_small_values(folder, prefix)]


def _small_values(folder: Path, prefix: str) -> dict[str, bytes]:
    contents = filter(None, map(_read, folder.glob(f"*{SUFFIX}")))
    return {f"{prefix}/{name}": data for content in contents for name, data in entries(content)}


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
