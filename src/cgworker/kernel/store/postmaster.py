"""The server process of an embedded PostgreSQL, as its postmaster.pid describes it, and its socket."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from cgworker.errors import UsageError
from cgworker.kernel.store.account import Account

START_SECONDS = 60.0
"""How long a server may take to be ready; recovery after a crash is part of it."""

STOP_SECONDS = 30.0
"""How long the last user waits for the server to be gone."""

_LONGEST_SOCKET = 100
"""Unix sockets have names of at most 103 bytes on macOS, 107 on Linux."""

_SOCKET_NAME = ".s.PGSQL.5432"


@frozen
class Postmaster:
    """A server process, in its own words."""

    pid: int
    socket_folder: Path
    status: str

    @property
    def stopping(self) -> bool:
        return self.status == "stopping"

    @property
    def lives(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def answers(self) -> bool:
        """Whether it takes connections; a pid alone could be anybody's by now."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket_folder / _SOCKET_NAME))
            except OSError:
                return False
        return True


def described(data: Path) -> Postmaster | None:
    """The server that a data folder names, which may be dead."""
    try:
        lines = (data / "postmaster.pid").read_text("utf-8").splitlines()
        return Postmaster(int(lines[0]), Path(lines[4]), lines[7].strip())
    except (FileNotFoundError, IndexError, ValueError):
        return None


def running(data: Path) -> Postmaster | None:
    """The server of a data folder, if it takes connections."""
    found = described(data)
    return found if found is not None and found.answers() else None


def is_ready_in_time(data: Path, pid: int) -> bool:
    """Wait until the server just started is ready; False if it died or took too long."""
    started = Postmaster(pid, data, "starting")

    def is_ready() -> bool:
        found = described(data)
        return found is not None and (found.pid, found.status) == (pid, "ready")

    return _wait_until(lambda: is_ready() or not started.lives, START_SECONDS) and is_ready()


def stop_unused(data: Path) -> None:
    """Stop a server whose users were all killed; its keeper may be about to do so, whoever joins it now."""
    found = running(data)
    if found is not None:
        with suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGINT)
        wait_until_gone(data)


def wait_until_gone(data: Path) -> None:
    """Wait for a server that is stopping; one that was killed is gone already."""
    found = described(data)
    if found is not None and (found.stopping or found.answers()):
        _wait_until(lambda: described(data) is None or not found.lives, STOP_SECONDS)


def _wait_until(happened: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


# ---------------------------------------------------------------- the socket


def make_socket_folder(data: Path, account: Account) -> Path:
    """The data folder, or a short one that only the account can use, where a name would be too long.

    A comma would end a name as well: PostgreSQL takes a list of folders.

    Raises:
        UsageError: the short one belongs to somebody else.
    """
    if len(os.fsencode(data / _SOCKET_NAME)) <= _LONGEST_SOCKET and "," not in str(data):
        return data
    folder = _short_socket_folder(data)
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder.lstat()
    if not stat.S_ISDIR(made.st_mode) or made.st_uid not in (os.geteuid(), account.uid):
        raise UsageError(f"{folder} belongs to somebody else: set CG_POSTGRES_FOLDER to a shorter name")
    account.own(folder)
    folder.chmod(0o700)
    return folder


def remove_socket_folder(data: Path) -> None:
    """Leave no empty folder behind; one in use is not empty."""
    with suppress(OSError):
        _short_socket_folder(data).rmdir()


def _short_socket_folder(data: Path) -> Path:
    return Path("/tmp") / f"cgworker-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}"
