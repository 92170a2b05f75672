"""Make private folders (0700), and read files of a child safely."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cgworker.wire.converter import loads

_PROBE_BYTES = 64 * 1024


class FileUnusable(Exception):
    """A file of a child cannot be used; the message says why, without the path."""


def make_private_folder(folder: Path) -> Path:
    """Make a folder with mode 0700, and its parents.

    Args:
        folder: the folder; an existing one gets the mode.

    Returns:
        The folder.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def try_to_write(folder: Path) -> None:
    """Check that a folder can be written, by writing 64 KiB: a full disk still takes empty files.

    Args:
        folder: the folder, which is made if it is missing.

    Raises:
        OSError: it cannot be made or written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        file.write(b"\0" * _PROBE_BYTES)


def read_json(path: Path | str, max_bytes: int, mask: Callable[[str], str]) -> Any:
    """Read a JSON file, and hide secrets in it.

    Args:
        path: the file.
        max_bytes: the largest size that is read.
        mask: hides secrets in a text.

    Raises:
        FileNotFoundError: the file does not exist.
        FileUnusable: it is no regular file, too large, or not JSON.
    """
    data = read_regular(path, max_bytes)
    try:
        return loads(mask(data.decode()))
    except (ValueError, RecursionError) as broken:
        raise FileUnusable(f"it is not valid JSON: {broken}") from broken


def read_regular(path: Path | str, max_bytes: int) -> bytes:
    """Read a regular file.

    Args:
        path: the file.
        max_bytes: the largest size that is read.

    Raises:
        FileNotFoundError: the file does not exist.
        FileUnusable: it is no regular file, or too large.
    """
    with _opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > max_bytes:
            raise FileUnusable(f"it is too large: {size} bytes, at most {max_bytes}")
        data = os.read(descriptor, size)  # not max_bytes: the whole buffer is allocated first
        while len(data) < size and (more := os.read(descriptor, size - len(data))):
            data += more
        return data


def read_from(path: Path | str, start: int, max_bytes: int) -> bytes:
    """Read a part of a regular file.

    Args:
        path: the file.
        start: the offset in bytes of the first byte.
        max_bytes: the most bytes to read.

    Returns:
        The part; empty if the file is not longer than `start`.

    Raises:
        FileNotFoundError: the file does not exist.
        FileUnusable: it is no regular file.
    """
    with _opened(path) as descriptor:
        os.lseek(descriptor, start, os.SEEK_SET)
        return os.read(descriptor, max_bytes)


@contextmanager
def _opened(path: Path | str) -> Iterator[int]:
    """Open a regular file, but no link, FIFO or device: a link points elsewhere, the others never end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _NOFOLLOW | _NONBLOCK | _BINARY)
    except FileNotFoundError:
        raise
    except OSError as refused:
        raise FileUnusable(f"it cannot be opened: {refused.strerror}") from refused
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileUnusable("it is not a regular file")
        yield descriptor
    except OSError as broken:
        raise FileUnusable(f"it cannot be read: {broken.strerror}") from broken
    finally:
        os.close(descriptor)


_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)
