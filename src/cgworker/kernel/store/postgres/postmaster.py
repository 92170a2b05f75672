"""The server process of an embedded PostgreSQL: its postmaster.pid, its state, and its socket folder."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from cgworker.errors import UsageError
from cgworker.kernel.store.postgres.server_account import Account

logger: logging.Logger = logging.getLogger("cgworker.kernel")

QUIET_SECONDS = 60.0
"""How many seconds a starting server may log nothing; during recovery it logs its progress."""

STOP_SECONDS = 30.0
"""How many seconds the last user waits for the server to end."""

_MAX_EARLIER_SECONDS = 10.0
_MAX_LATER_SECONDS = 2.0
"""How many seconds a process may start before, or by rounding after, the time in its postmaster.pid."""

_PROGRESS = re.compile(r"LOG: +(.*, elapsed time: .*)")

_MAX_SOCKET_PATH_BYTES = 100
"""The longest path of a socket; the limits are 103 bytes on macOS and 107 on Linux."""

_SOCKET_NAME = ".s.PGSQL.5432"


@frozen
class Postmaster:
    """A server process, as its postmaster.pid describes it."""

    pid: int
    started_at: int
    socket_folder: Path
    status: str

    @property
    def is_stopping(self) -> bool:
        """True if the server is shutting down."""
        return self.status == "stopping"

    @property
    def is_alive(self) -> bool:
        """Whether the process runs. A process with its pid and another start time is a different one."""
        if not process_exists(self.pid):
            return False
        began = _started_at(self.pid)
        return began is None or -_MAX_LATER_SECONDS <= self.started_at - began <= _MAX_EARLIER_SECONDS

    def accepts_connections(self) -> bool:
        """Whether the server accepts connections; its pid may belong to another process by now."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket_folder / _SOCKET_NAME))
            except OSError:
                return False
        return True


def read_pid_file(data: Path) -> Postmaster | None:
    """Read postmaster.pid; the server that it names may be dead. None if it is missing or incomplete."""
    try:
        lines = (data / "postmaster.pid").read_text("utf-8").splitlines() + [""] * 5
        return Postmaster(abs(int(lines[0])), int(lines[2]), data / lines[4], lines[7].strip())
    except (FileNotFoundError, IndexError, ValueError):
        return None


def remove_unreadable(data: Path) -> None:
    """Remove an unreadable postmaster.pid, as a power cut leaves it: PostgreSQL would not start."""
    if read_pid_file(data) is None:
        (data / "postmaster.pid").unlink(missing_ok=True)


def find_running(data: Path) -> Postmaster | None:
    """Return the server of a data folder, if it accepts connections."""
    found = read_pid_file(data)
    return found if found is not None and found.accepts_connections() else None


def wait_until_ready(data: Path, pid: int, *, is_cancelled: Callable[[], bool]) -> bool:
    """Wait until a new server is ready, and log the progress of its recovery.

    Args:
        data: the data folder.
        pid: the server's process.
        is_cancelled: whether to stop waiting.

    Returns:
        True if it is ready; False if it died, logged nothing for `QUIET_SECONDS`, or was cancelled.
    """
    heard_bytes, deadline = 0, time.monotonic() + QUIET_SECONDS
    while process_exists(pid) and time.monotonic() < deadline and not is_cancelled():
        if _is_ready(data, pid):
            return True
        said = (data / "log").read_bytes()
        if len(said) > heard_bytes:
            _log_progress(said[heard_bytes:].decode("utf-8", errors="replace"))
            heard_bytes, deadline = len(said), time.monotonic() + QUIET_SECONDS
        time.sleep(0.005)
    return _is_ready(data, pid)


def _is_ready(data: Path, pid: int) -> bool:
    """Whether the server is ready; an old postmaster.pid with its pid may stay until it listens."""
    found = read_pid_file(data)
    is_it = found is not None and (found.pid, found.status) == (pid, "ready")
    return is_it and found is not None and found.accepts_connections() and read_pid_file(data) == found


def _log_progress(output: str) -> None:
    for progress in _PROGRESS.findall(output):
        logger.warning("the embedded PostgreSQL is not ready yet: %s", progress)


def stop_unused(data: Path) -> None:
    """Stop a server whose users were all killed; its keeper may be about to stop it, so do not join it."""
    found = find_running(data)
    if found is not None:
        if found.is_alive:
            with suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGINT)
        wait_until_gone(data)


def wait_until_gone(data: Path) -> bool:
    """Wait until a server has ended; return False if it has not after `STOP_SECONDS`."""
    deadline = time.monotonic() + STOP_SECONDS
    while (found := read_pid_file(data)) is not None and (found.is_alive or found.accepts_connections()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


# ---------------------------------------------------------------- processes


def process_exists(pid: int) -> bool:
    """Whether there is a process with that pid, of any user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _started_at(pid: int) -> float | None:
    """Return when a process started, in seconds since 1970; None if unknown."""
    if sys.platform != "linux":
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    booted_at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted_at + int(fields[19]) / os.sysconf("SC_CLK_TCK")


# ---------------------------------------------------------------- the socket


def make_socket_folder(data: Path, account: Account) -> Path:
    """Return the folder for the socket: the data folder, or a short private one if the path is too long.

    A path with a comma is not possible either, since PostgreSQL takes a list of folders.

    Raises:
        UsageError: the short folder belongs to another user.
    """
    if len(os.fsencode(data / _SOCKET_NAME)) <= _MAX_SOCKET_PATH_BYTES and "," not in str(data):
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
    """Remove the short socket folder if it is empty; one in use is not."""
    with suppress(OSError):
        _short_socket_folder(data).rmdir()


def _short_socket_folder(data: Path) -> Path:
    return Path("/tmp") / f"cgworker-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}"
