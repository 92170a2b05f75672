"""PostgreSQL servers of a drill: a primary and a standby, by the programs of Debian's PostgreSQL 15."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
from attrs import define, field

from cgworker.kernel.store.postgres.server_account import Account, server_account
from tests.soak.processes import Alive, descendants, is_alive, signal_all
from tests.soak.stage import free_ports

PROGRAMS = Path("/usr/lib/postgresql/15/bin")

USER, DATABASE = "cgworker", "cgworker"

_SETTINGS = {
    "unix_socket_directories": "",
    "listen_addresses": "*",
    "fsync": "on",
    "wal_keep_size": "1GB",
    "max_connections": 100,
    "wal_receiver_timeout": "5s",
    "wal_sender_timeout": "5s",
    "log_min_messages": "warning",
}
_START_SECONDS = 60.0
_FOLLOWED = """
select sync_state from pg_stat_replication where application_name = $1 and state = 'streaming'
"""


def account_of_servers() -> Account:
    """The account that servers run as: PostgreSQL refuses to be root."""
    return server_account(Path("/nowhere"))


@define(eq=False)
class Server:
    """A PostgreSQL with a data folder and a TCP port of its own.

    Args:
        name: the name by which a primary knows it as a standby.
        folder: where its data is; it need not exist yet.
        port: its port.
        host: the address by which everybody reaches it.
        prefix: words before each command, such as those that enter a network namespace.
        standby_host: the address by which its standby reaches it; by default the same.
    """

    name: str
    folder: Path
    port: int
    host: str = "127.0.0.1"
    prefix: Sequence[str] = ()
    standby_host: str | None = None
    _process: subprocess.Popen[bytes] | None = None
    _account: Account = field(factory=account_of_servers)

    @property
    def dsn(self) -> str:
        """The address of its database."""
        return f"postgresql://{USER}@{self.host}:{self.port}/{DATABASE}?sslmode=disable"

    @property
    def data(self) -> Path:
        """The data folder, within a folder that the account owns."""
        return self.folder / "data"

    @property
    def become(self) -> Sequence[str]:
        """The words that run a command as its account."""
        if self._account.is_ours:
            return []
        return ["setpriv", f"--reuid={self._account.uid}", f"--regid={self._account.gid}", "--clear-groups"]

    async def initialise(self, settings: Mapping[str, object] = {}) -> None:
        """Make a new, empty cluster; its database comes with `start` and `make_database`."""
        self.make_folder()
        await self.run("initdb", "-D", self.data, "-A", "trust", "-U", USER, "-N")
        self._configure({**_SETTINGS, **settings, "port": self.port})
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all trust\nhost replication all all trust\n")

    async def copy(self, primary: Server) -> None:
        """Become a standby of a primary that runs, with a copy of its data."""
        self.make_folder()
        host = primary.standby_host or primary.host
        source = f"host={host} port={primary.port} user={USER} application_name={self.name}"
        await self.run(
            "pg_basebackup", "-D", self.data, "-R", "-X", "stream", "-c", "fast", "-N", "-d", source
        )
        self._configure({"port": self.port})

    async def start(self) -> None:
        """Start it, and wait until it takes connections.

        Raises:
            TimeoutError: it does not.
        """
        with (self.folder / "log").open("ab") as log:
            self._process = self._popen("postgres", "-D", self.data, output=log)
        await self.answers()

    async def answers(self) -> None:
        """Wait until it takes connections.

        Raises:
            TimeoutError: it does not.
        """
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError, asyncpg.PostgresError):
                await self.ask("select 1", database="postgres", seconds=5)
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{self.name} does not start; see {self.folder / 'log'}")

    async def ask(self, statement: str, *values: Any, database: str = DATABASE, seconds: float = 20) -> Any:
        """Run one statement on a connection of its own; returns the first value of its first row."""
        connection = await asyncpg.connect(
            host=self.host, port=self.port, user=USER, database=database, ssl=False, timeout=seconds
        )
        try:
            return await connection.fetchval(statement, *values, timeout=seconds)
        finally:
            connection.terminate()

    async def be_followed_by(self, standby: Server) -> None:
        """Wait for the standby from now on, at each commit."""
        await self.ask(f"alter system set synchronous_standby_names = '{standby.name}'", database="postgres")
        await self.ask("select pg_reload_conf()", database="postgres")
        await self.see(standby, "sync")

    async def see(self, standby: Server, state: str) -> None:
        """Wait until the standby streams, as a synchronous one (`sync`) or not (`async`)."""
        async with asyncio.timeout(_START_SECONDS):
            while await self.ask(_FOLLOWED, standby.name, database="postgres") != state:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def promote(self) -> float:
        """Make a standby the primary, as an operator does by hand; returns when it was."""
        if not await self.ask("select pg_promote(true, 60)", database="postgres", seconds=70):
            raise TimeoutError(f"{self.name} was not promoted within a minute")
        return time.monotonic()

    def kill(self) -> None:
        """End it and all its processes with SIGKILL at once, as if its machine had died."""
        signal_all(self.processes(), signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def processes(self) -> list[Alive]:
        """All its processes; the first is its postmaster, or what started it."""
        return (
            [] if self._process is None else [one for one in descendants(self._process.pid) if is_alive(one)]
        )

    async def run(self, program: str, *arguments: str | Path) -> None:
        """Run one of PostgreSQL's programs to its end."""
        with (self.folder / "log").open("ab") as log:
            status = await asyncio.to_thread(self._popen(program, *arguments, output=log).wait)
        if status:
            raise RuntimeError(f"{program} failed with status {status}; see {self.folder / 'log'}")

    def make_folder(self) -> None:
        """Make its folder, owned by its account."""
        self.folder.mkdir(parents=True, mode=0o755, exist_ok=True)
        self._account.own(self.folder)

    def _configure(self, settings: Mapping[str, object]) -> None:
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def _popen(self, program: str, *arguments: str | Path, output: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.prefix, *self.become, PROGRAMS / program, *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        )


def free_servers(folder: Path) -> tuple[Server, Server]:
    """Two servers on loopback, at ports that were free just now."""
    one, two = free_ports(2)
    return Server("one", folder / "one", one), Server("two", folder / "two", two)


def lacking(*programs: str) -> list[str]:
    """The programs that this machine lacks; PostgreSQL 15 is looked for where Debian has it."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [program for program in programs if shutil.which(program, path=path) is None]
    return [*missing, *([] if (PROGRAMS / "postgres").exists() else ["postgresql-15"])]
