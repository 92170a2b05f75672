"""Who runs the embedded PostgreSQL: it refuses to run as root, so root has an account made for it.

The account owns the data and nothing else, and needs no way to it: where root starts something for it,
the working folder is the data folder already, which a process can use whatever is closed above it.
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
"""The account that root has made: its own, since another service's could read and stop this one."""

SHARED_FOLDER = Path("/var/lib") / ACCOUNT_NAME
"""A folder that anybody can read, for what the account needs and could not reach elsewhere."""

_WORKING_FOLDER = Path("/proc/self/cwd")
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.1


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

    def name_of(self, folder: Path) -> Path:
        """What a process of the account calls the folder that is its working folder."""
        return folder if self.is_ours or not _WORKING_FOLDER.exists() else _WORKING_FOLDER


def server_account(data: Path) -> Account:
    """The account to run a server as: our own; as root that of its data, or the one made for it.

    Raises:
        UsageError: we are root, and the account is missing and cannot be made.
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
    """A new system account; whoever makes one at the same moment locks the list of accounts for a while."""
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
