"""Who runs the embedded PostgreSQL: it refuses to run as root, so root lends it another account."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from cgworker.errors import UsageError

if sys.platform != "win32":
    import pwd

_LENT = ("pgserver", "postgres")
"""Accounts that root lends, the first that exists; the first is made if none does."""


@frozen
class Account:
    """The account of a server, by number."""

    uid: int
    gid: int

    @property
    def is_ours(self) -> bool:
        return self.uid == os.geteuid()

    def process_options(self) -> Mapping[str, Any]:
        """What `subprocess` needs to run something as this account."""
        return {} if self.is_ours else {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Hand a file or folder over."""
        if not self.is_ours:
            os.chown(path, self.uid, self.gid)

    def open_way_to(self, path: Path) -> None:
        """Let the account pass through the folders above `path`; it may not list what is in them."""
        if self.is_ours:
            return
        for folder in path.parents:
            mode = folder.stat().st_mode
            if not mode & stat.S_IXOTH:
                folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)

    def open_tree(self, folder: Path) -> None:
        """Let the account read a folder of programs and run them, if a strict umask shut it out."""
        if self.is_ours or folder.stat().st_mode & stat.S_IROTH:
            return
        for path in (folder, *folder.rglob("*")):
            mode = stat.S_IMODE(path.lstat().st_mode)
            if not path.is_symlink():
                path.chmod(mode | (mode & stat.S_IRWXU) >> 6 & ~stat.S_IWOTH)


def server_account(data: Path) -> Account:
    """The account to run a server as: our own; as root that of its data, or one that is lent.

    Raises:
        UsageError: we are root and there is no account to lend.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    if data.exists():
        return Account(data.stat().st_uid, data.stat().st_gid)
    return _existing() or _made()


def _existing() -> Account | None:
    for name in _LENT:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    return None


def _made() -> Account:
    command = ["useradd", "--system", "--user-group", "--no-create-home", _LENT[0]]
    try:
        subprocess.run(command, check=True, capture_output=True)
        entry = pwd.getpwnam(_LENT[0])
    except (OSError, subprocess.CalledProcessError, KeyError) as failed:
        raise UsageError(
            "PostgreSQL does not run as root, and no account could be made for it: run as another user, "
            f"make an account named {_LENT[0]}, or set PG_DSN"
        ) from failed
    return Account(entry.pw_uid, entry.pw_gid)
