"""The account that runs the embedded PostgreSQL. It refuses to run as root, so root creates an account.

The account owns the data folder and nothing else. It needs no access to the folders above: root starts its
processes in the data folder, and a process can always use its working folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from cgworker.errors import UsageError

if sys.platform != "win32":
    import pwd

ACCOUNT_NAME = "cgworker-postgres"
"""The account that root creates; an account of another service could read and stop this server."""

SHARED_FOLDER = Path("/var/lib") / ACCOUNT_NAME
"""A world-readable folder, for the programs that the account could not reach elsewhere."""

_WORKING_FOLDER = Path("/proc/self/cwd")
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.1


@frozen
class Account:
    """The account of a server: its user and group ids."""

    uid: int
    gid: int

    @property
    def is_ours(self) -> bool:
        """True if this process runs as this account already."""
        return self.uid == os.geteuid()

    def process_options(self) -> Mapping[str, Any]:
        """Return the options with which `subprocess` runs a program as this account."""
        return {} if self.is_ours else {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give the account a file or folder."""
        if not self.is_ours:
            os.chown(path, self.uid, self.gid)

    def name_of(self, folder: Path) -> Path:
        """Return the name by which a process of the account can open its working folder."""
        return folder if self.is_ours or not _WORKING_FOLDER.exists() else _WORKING_FOLDER


def server_account(data: Path) -> Account:
    """Return the account to run a server as: our own, or as root the owner of the data or the created one.

    Args:
        data: the data folder, which may not exist yet.

    Raises:
        UsageError: this process runs as root, and the account cannot be created.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    if data.exists():
        return Account(data.stat().st_uid, data.stat().st_gid)
    return _find_account() or _create_account()


def _find_account() -> Account | None:
    try:
        entry = pwd.getpwnam(ACCOUNT_NAME)
    except KeyError:
        return None
    return Account(entry.pw_uid, entry.pw_gid)


def _create_account() -> Account:
    """Create the system account; retry while another process has the list of accounts locked."""
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(SHARED_FOLDER)]
    command += ["--shell", "/usr/sbin/nologin", ACCOUNT_NAME]
    for _ in range(_ATTEMPTS):
        try:
            made = subprocess.run(command, check=False, capture_output=True, text=True)
            said = made.stderr.strip()
        except OSError as missing:
            said = str(missing)
            break
        if account := _find_account():
            return account
        time.sleep(_PAUSE_SECONDS)
    raise UsageError(
        f"PostgreSQL does not run as root, and no account could be made for it ({said}): run as another "
        f"user, make a system account named {ACCOUNT_NAME}, or set PG_DSN"
    )
