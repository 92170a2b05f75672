"""A kernel in a process of its own that can be killed, and statements that can be held while it is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import asyncpg
import httpx
from attrs import define, field

from cgworker.kernel.server import bind
from tests.warm import warm_python

HELD_TABLES = (
    "cg_agents",
    "cg_idempotency_keys",
    "cg_invites",
    "cg_ledger",
    "cg_ledger_heads",
    "cg_projects",
    "cg_records",
    "cg_spawns",
    "cg_turns",
)
MOMENTS = ("BEFORE", "AFTER")  # of a row written: in the middle of its statement, or at its very end

_START_SECONDS = 20.0
_HOLD_SECONDS = 10.0

# Whoever writes to the table waits for the lock that a test holds; nobody holds it most of the time.
_HOLDS = """
create function hold() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(tg_relid::int, ascii(tg_when));
    return new;
end $$;
"""
_HOLD = """
create trigger hold_{moment} {moment} insert or update on {table} for each row execute function hold();
"""
_RESERVATION = """
from pg_locks where locktype = 'advisory' and not granted
    and database = (select oid from pg_database where datname = current_database())
"""
_OF_THE_KERNEL = """
from pg_stat_activity where datname = current_database() and application_name = $1
"""
_END_LEASE = """
update cg_turns set claim_expires_at = clock_timestamp() - interval '1 ms'
where project_id = $1 and turn_number = $2 and state = 'running'
"""
_ITS_NAME = "cgworker kernel"  # what a kernel calls its connections


@define
class MortalKernel:
    """`cg local run`, in one incarnation after another at the same address."""

    project_id: str
    dsn: str
    folder: Path
    port: int = field()
    alive: anyio.Event = field(factory=anyio.Event)
    _process: subprocess.Popen[bytes] | None = None

    @port.default
    def _a_free_port(self) -> int:
        with bind("127.0.0.1", 0) as listener:
            return int(listener.getsockname()[1])

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def bearer_file(self) -> Path:
        return self.folder / "bearer"

    async def start(self) -> None:
        """Begin an incarnation, and return when it can serve."""
        with (self.folder / "kernel.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220  # returns at once
                [warm_python(), "-m", "cgworker", "local", "run", "--project-id", self.project_id,
                 "--admin-auth-token-file", str(self.bearer_file)],
                env=self._environ(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        async with httpx.AsyncClient(base_url=self.base_url) as client:
            with anyio.fail_after(_START_SECONDS):
                while not await _is_ready(client):  # noqa: ASYNC110  # it can only be asked
                    await anyio.sleep(0.02)
        self.alive.set()

    def kill(self) -> None:
        """SIGKILL; whoever asks it from now on waits for `alive`."""
        assert self._process is not None
        self.alive = anyio.Event()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        while _listens(self.port):
            time.sleep(0.002)  # the warm Python's process ends right after its stand-in

    def _environ(self) -> Mapping[str, str]:
        own = {
            "PG_DSN": self.dsn,
            "CG_PORT": str(self.port),
            "CG_CLAIM_REAPER_INTERVAL_SECONDS": "0",
            "CG_CLAIM_TIMEOUT_SECONDS": "600",  # a test ends leases, slow restarts do not
            "HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_DATA_HOME": str(self.folder / "data"),
        }
        return {**{name: text for name, text in os.environ.items() if not name.startswith("CG_")}, **own}


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def _is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


class Watch:
    """The test's own connections: they hold the kernel's statements, end them, and see which are left."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self.pool = pool

    async def prepare(self) -> None:
        """Make the holds."""
        await self.pool.execute(_HOLDS)
        for table in HELD_TABLES:
            for moment in MOMENTS:
                await self.pool.execute(_HOLD.format(table=table, moment=moment))

    @asynccontextmanager
    async def holding(self, table: str, moment: str) -> AsyncIterator[None]:
        """Within the block a statement that writes to the table is held; begins once there is one."""
        lock = (table, ord(moment[0]))
        async with self.pool.acquire() as connection:
            await connection.execute("select pg_advisory_lock($1::text::regclass::oid::int, $2)", *lock)
            try:
                await self._until("select count(*) > 0" + _RESERVATION)
                yield
            finally:
                await connection.execute("select pg_advisory_unlock($1::text::regclass::oid::int, $2)", *lock)

    async def end_statements(self) -> None:
        """End every connection that the kernel has, in the middle of what it does."""
        await self.pool.execute("select count(pg_terminate_backend(pid))" + _OF_THE_KERNEL, _ITS_NAME)

    async def alone(self) -> None:
        """Until the database has noticed the kernel's end."""
        await self._until("select count(*) = 0" + _OF_THE_KERNEL, _ITS_NAME)

    async def end_lease(self, project_id: str, turn_id: str) -> None:
        """Let the lease of a running turn have ended."""
        await self.pool.execute(_END_LEASE, project_id, int(turn_id.removeprefix("T-")))

    async def _until(self, statement: str, *values: object) -> None:
        with anyio.fail_after(_HOLD_SECONDS):
            while not await self.pool.fetchval(statement, *values):  # noqa: ASYNC110  # as here
                await anyio.sleep(0.005)
