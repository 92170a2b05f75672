"""Segments: files to which the small values of a turn are appended, so that one sync serves several values.

Each process has a segment of its own for each turn. An entry has a checksum, and what follows a damaged entry
is not read. So after a power cut a segment has the values up to one, and none after it.
"""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from zlib import crc32

from cgworker.private import make_private_folder

SUFFIX = ".segment"
"""How the names of segments end."""

_MARK = b"cgv1"
_HEAD = struct.Struct(">4sIHI")  # the mark, the checksum of the rest, the lengths of the name and of the data
_MAX_OPEN = 64  # segments of turns that go on; one that is opened anew costs more than a small value
_APPEND = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_sync_data = getattr(os, "fdatasync", os.fsync)


class Segment:
    """A segment that this process appends to, from a value that is not synced to the last one that is.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self.is_new: bool = False
        self.descriptor: int = self._open()
        self.written: int = 0
        self.synced: int = 0
        self.has_failed: bool = False
        self.syncing: Lock = Lock()

    def _open(self) -> int:
        try:
            return os.open(self.path, _APPEND)
        except FileNotFoundError:
            self.is_new = True
            make_private_folder(self.path.parent)
            return os.open(self.path, _APPEND | os.O_CREAT | os.O_EXCL, 0o600)

    @property
    def is_there(self) -> bool:
        """Whether it is still in its folder: somebody may have removed that."""
        return os.fstat(self.descriptor).st_nlink > 0

    def __del__(self) -> None:
        if getattr(self, "descriptor", -1) >= 0:
            os.close(self.descriptor)


class Segments:
    """The segments that this process appends to, by their folders, for calls from any thread.

    Those of the turns that were worked on last stay open.
    """

    def __init__(self) -> None:
        self._open: dict[Path, Segment] = {}
        self._process = 0
        self._salt = ""
        self._failures = 0
        self._lock = Lock()

    def append(self, folder: Path, name: str, data: bytes) -> tuple[Segment, int]:
        """Append a value to the folder's segment; it outlives this process once this returns.

        Args:
            folder: the folder of the turn.
            name: the value's name.
            data: the value.

        Returns:
            The segment and the number of the value in it, for `sync`.

        Raises:
            OSError: it cannot be written.
        """
        entry = _entry(name.encode(), data)
        with self._lock:
            if self._process != os.getpid():  # those of a parent are not ours
                self._open.clear()
                self._process, self._salt = os.getpid(), secrets.token_hex(8)
            segment = self._segment_of(folder)
            try:
                if os.write(segment.descriptor, entry) != len(entry):
                    raise OSError(28, "No space left on device", str(segment.path))
            except OSError:  # nothing that follows a part of an entry would be read
                self._give_up(folder, segment)
                raise
            segment.written += 1
            return segment, segment.written

    def _segment_of(self, folder: Path) -> Segment:
        segment = self._open.pop(folder, None)
        if segment is None or not segment.is_there:
            self._close_oldest()
            segment = Segment(folder / f"{self._salt}-{self._failures}{SUFFIX}")
        self._open[folder] = segment  # the last one: the one that was used last
        return segment

    def _close_oldest(self) -> None:
        """Close the segments that were used longest ago, if there are too many and they are synced."""
        while len(self._open) >= _MAX_OPEN:
            folder, oldest = next(iter(self._open.items()))
            if oldest.synced < oldest.written:
                return
            del self._open[folder]

    def _give_up(self, folder: Path, segment: Segment) -> None:
        segment.has_failed = True
        self._failures += 1  # the next one has another name
        if self._open.get(folder) is segment:
            del self._open[folder]

    def sync(self, segment: Segment, number: int) -> None:
        """Sync a segment to the disk, unless another call did so after the value was appended.

        Args:
            segment: the segment.
            number: the number of the value in it.

        Raises:
            OSError: it cannot be synced.
        """
        folder = segment.path.parent
        with segment.syncing:
            if segment.synced >= number:
                return
            try:
                if segment.has_failed:
                    raise OSError(5, "Input/output error", str(segment.path))
                written = segment.written
                _sync_data(segment.descriptor)
                if segment.is_new:
                    sync_folders(folder, folder.parent)
                    segment.is_new = False
                segment.synced = written
            except OSError:
                with self._lock:
                    self._give_up(folder, segment)
                raise

    def forget(self, folder: Path) -> None:
        """Close the segment of a folder that is to be removed.

        Args:
            folder: the folder of the turn.
        """
        with self._lock:
            self._open.pop(folder, None)


def sync_file(path: Path) -> None:
    """Sync a new file and its folders, so that it outlives a power cut.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be synced.
    """
    descriptor = os.open(path, os.O_RDWR)  # Windows syncs no file that is open for reading
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folders(path.parent, path.parent.parent)


def sync_folders(*folders: Path) -> None:
    """Sync folders, so that files that were made in them outlive a power cut.

    Args:
        folders: the folders.

    Raises:
        OSError: one cannot be synced.
    """
    if os.name == "nt":  # Windows opens no folders
        return
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _entry(name: bytes, data: bytes) -> bytes:
    return _HEAD.pack(_MARK, crc32(data, crc32(name)), len(name), len(data)) + name + data


def entries(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the names and values of a segment, up to one that is damaged.

    Args:
        content: the content of the file.
    """
    at = 0
    while at + _HEAD.size <= len(content):
        mark, checksum, name_size, size = _HEAD.unpack_from(content, at)
        begin = at + _HEAD.size
        at = begin + name_size + size
        entry = content[begin:at]
        if mark != _MARK or len(entry) < name_size + size or crc32(entry) != checksum:
            return
        yield entry[:name_size].decode("ascii", "replace"), entry[name_size:]
