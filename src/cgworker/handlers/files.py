"""Files that secrets and results pass through: 0600 in 0700 folders, and read with care."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cgworker.errors import UsageError
from cgworker.wire.converter import loads

_TRIED_BYTES = 64 * 1024


class FileUnusable(Exception):
    """A file that a child left cannot be taken as it is; the text says why, without the path."""


def state_folder(name: str) -> Path:
    """Where cgworker keeps `name` between runs: `$XDG_STATE_HOME/cgworker/...`, or `~/.local/state`.

    Raises:
        UsageError: there is neither that variable nor a home folder.
    """
    state = os.environ.get("XDG_STATE_HOME") or _home() / ".local" / "state"
    return Path(state, "cgworker", name)


def _home() -> Path:
    """The home folder. One that is missing is not made: it is a placeholder, such as `/nonexistent`."""
    try:
        home = Path.home()
        what = None if home.is_dir() else f"the home folder {home} does not exist"
    except RuntimeError:
        what = "HOME is not set, and this user has no entry in the password file"
    if what is not None:
        raise UsageError(f"there is no folder for a worker's state: {what}; set XDG_STATE_HOME to one")
    return home


def make_private_folder(folder: Path) -> Path:
    """Make the folder, 0700, and those above it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def write_private(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Write the file anew, 0600; a link that stands there is not followed.

    Args:
        sync: have it on the disk when this returns.
    """
    descriptor = _made_anew(path)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_to_write(folder: Path) -> None:
    """Make the folder if need be, and see whether a file can be written in it: a full disk takes empty ones.

    Raises:
        OSError: it cannot.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        file.write(b"\0" * _TRIED_BYTES)


def _made_anew(path: Path) -> int:
    """A new file's descriptor; what stands there goes away, which most often is nothing."""
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _BINARY
    try:
        return os.open(path, new, 0o600)
    except FileExistsError:
        path.unlink(missing_ok=True)
        return os.open(path, new, 0o600)


def read_json(path: Path, most_bytes: int, mask: Callable[[str], str]) -> Any:
    """The JSON value in the file, without the secrets that `mask` knows.

    Raises:
        FileNotFoundError: there is none.
        FileUnusable: it is no regular file, too large, or not JSON.
    """
    data = read_regular(path, most_bytes)
    try:
        return loads(mask(data.decode()))
    except (ValueError, RecursionError) as broken:
        raise FileUnusable(f"it is not valid JSON: {broken}") from broken


def read_regular(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file.

    Raises:
        FileNotFoundError: there is none.
        FileUnusable: it is no regular file, or too large.
    """
    with _opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size > most_bytes:
            raise FileUnusable(f"it is too large: {size} bytes, at most {most_bytes}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(size)  # not most_bytes: so large a buffer is made before anything is read


def read_from(path: Path, start: int, most_bytes: int) -> bytes:
    """So much of a regular file from `start` on; nothing if it is not that long.

    Raises:
        FileNotFoundError: there is none.
        FileUnusable: it is no regular file.
    """
    with _opened(path) as descriptor:
        os.lseek(descriptor, start, os.SEEK_SET)
        return os.read(descriptor, most_bytes)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A regular file: no link, FIFO or device, which could point elsewhere or never end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _NOFOLLOW | _NONBLOCK)
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
_BINARY = getattr(os, "O_BINARY", 0)  # or else Windows adds to each line's end
