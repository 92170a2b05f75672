"""Read and write files that only their owner may read: secrets, and files that name them.

Files have mode 0600, in folders of mode 0700. A secret that other users can read or write is refused. One
exception: root may own the file and let a group of this process read it, as PostgreSQL allows for its keys.
That is how Kubernetes mounts a secret for a process that is not root.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cgworker.errors import ProfileError


def check_private(path: Path) -> None:
    """Refuse a file that other users may read or write. Root's may be readable by a group of this process.

    Raises:
        ProfileError: they may (`profile_token_permissions`); the user must change the file's mode.
        FileNotFoundError: there is no such file.
    """
    if sys.platform == "win32":
        return
    found = path.stat()
    is_lent = found.st_uid == 0 != os.geteuid() and found.st_gid in {os.getegid(), *os.getgroups()}
    if stat.S_IMODE(found.st_mode) & (0o037 if is_lent else 0o077):
        message = f"token file permissions must be 0600: {path}"
        raise ProfileError("profile_token_permissions", message, status=403)


def read_secret(path: Path) -> str | None:
    """Return the secret in a private file, without space around it; None if there is no file or no secret.

    Raises:
        ProfileError: other users may read or write it (`profile_token_permissions`).
    """
    try:
        check_private(path)
        return path.read_text("utf-8").strip() or None
    except FileNotFoundError:
        return None


def replace_private(path: Path, text: str) -> None:
    """Replace a file, with mode 0600, and flush it to the disk; after a failure the old file is still there.

    Raises:
        OSError: the file or its folder cannot be written.
    """
    make_private_folder(path.parent)
    with replacing_private(path) as file:
        file.write(text.encode("utf-8"))


@contextmanager
def replacing_private(path: Path) -> Iterator[BinaryIO]:
    """Open a new file with mode 0600 that replaces another one at the end, unless the block fails.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_private(path: Path | str, data: bytes, *, sync: bool = False) -> None:
    """Write a new file with mode 0600. An existing file or link is replaced; the link is not followed.

    Args:
        path: the file.
        data: its content.
        sync: fsync the file before this returns.

    Raises:
        OSError: it cannot be written.
    """
    descriptor = _create(path)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(path: Path | str) -> int:
    """Create a file and return its descriptor; an existing file is removed first."""
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _BINARY
    try:
        return os.open(path, new, 0o600)
    except FileExistsError:
        Path(path).unlink(missing_ok=True)
        return os.open(path, new, 0o600)


def make_private_folder(folder: Path) -> None:
    """Make the folder and the missing ones above it, each with mode 0700; existing ones are not changed."""
    if not folder.is_dir():
        make_private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def check_writable(folder: Path) -> None:
    """Make the folder if it is missing, and refuse one that cannot be written.

    Raises:
        OSError: it cannot be made or written.
    """
    make_private_folder(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)  # without it, Windows writes CRLF
