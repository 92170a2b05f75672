"""Files and folders that are their owner's alone: where secrets and what leads to them are kept.

Files are 0600 in 0700 folders, written whole or not at all, and refused when others could read them.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from pathlib import Path

from cgworker.errors import ProfileError


def check_private(path: Path) -> None:
    """Refuse a file that others may read or write.

    Raises:
        ProfileError: profile_token_permissions.
        FileNotFoundError: there is none.
    """
    if sys.platform != "win32" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        message = f"token file permissions must be 0600: {path}"
        raise ProfileError("profile_token_permissions", message, status=403)


def read_secret(path: Path) -> str | None:
    """The secret in a file of one's own; None if it is empty or there is none.

    Raises:
        ProfileError: profile_token_permissions; others may read or write it.
    """
    try:
        check_private(path)
        return path.read_text("utf-8").strip() or None
    except FileNotFoundError:
        return None


def replace_private(path: Path, text: str) -> None:
    """Write the file, 0600, whole and on the disk, or leave what was there."""
    make_private_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def make_private_folder(folder: Path) -> None:
    """Make the folder and those above it that are missing, each 0700; what exists is left as it is."""
    if not folder.is_dir():
        make_private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def check_writable(folder: Path) -> None:
    """Refuse a folder that could not be written, before something happens whose result must be kept there.

    Raises:
        OSError: it cannot be made, or is closed to us.
    """
    make_private_folder(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
