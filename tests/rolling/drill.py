"""The drill: a database with kernels and workers of the old version, which are replaced one by one."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
from attrs import define, field

from cgworker import AgentRef, KernelClient
from cgworker.kernel.store.postgres.embedded import EmbeddedPostgres
from cgworker.kernel.store.postgres.migrate import known_migrations
from tests.rolling.old_version import OldVersion
from tests.soak.chaos import Deed
from tests.soak.journal import read_runs
from tests.soak.processes import Servant, marked, signal_all
from tests.soak.stage import CONCURRENCY, PROJECT, free_ports
from tests.soak.verdict import Verdict

LEASE_SECONDS = 15.0

_WAIT_SECONDS = 120.0
_KERNEL = ("cgworker", "service", "run")
_WORKER = ("tests.soak.worker",)
_WAITING = {"0013_leases", "0014_old_order", "0017_ledger_key"}  # they run where no old kernel is connected

# Of each version: the place of its kernel, its machine and its agent.
_WORKERS = ((0, "east", "desk"), (1, "west", "desk"), (0, "west", "shop"), (1, "east", "shop"))


@define
class Drill:
    """Two kernels with workers of both versions at each, the first kernel new while the second is old.

    The second kernel's workers of this version work at an old kernel, the first one's old workers at a new.

    Attributes:
        ending: the signal by which the old ones are ended.
        deeds: what was done.
        faults: what did not go as it must.
    """

    folder: Path
    old: OldVersion
    ending: signal.Signals
    dsn: str
    tokens: dict[str, str]
    mark: str
    ports: list[int] = field(factory=lambda: free_ports(2))
    kernels: dict[int, Servant] = field(factory=dict)
    workers: list[Servant] = field(factory=list)
    deeds: list[Deed] = field(factory=list)
    faults: list[str] = field(factory=list)

    @property
    def journal(self) -> Path:
        """Where handlers tell of their runs."""
        return self.folder / "journal"

    def client(self, port: int) -> KernelClient:
        """The agent that dispatches, at the kernel of a port."""
        agent = AgentRef(project_id=PROJECT, agent_id="requester")
        return KernelClient(f"http://127.0.0.1:{port}", agent=agent, token=self.tokens["requester"])

    async def replace_all(self) -> None:
        """Replace the first kernel, the workers and the second kernel, while turns run."""
        first, second = self.ports
        for port in self.ports:
            await self._start_kernel("old", port)
        old_workers = await self._start_workers("old")
        await self._have_worked(old_workers)
        await self._end(self.kernels[first], "kernel")
        await self._start_kernel("new", first)
        await self._must_be_refused()
        new_workers = await self._start_workers("new")
        await self._have_worked([*old_workers, *new_workers])  # each version's at each version's kernel
        self._expect("migrations that wait for the old", await self._missing_migrations(), _WAITING)
        for worker in old_workers:
            await self._end(worker, "worker")
            self.workers.remove(worker)
        await self._end(self.kernels[second], "kernel")
        await self._start_kernel("new", second)
        self._expect("migrations that wait", await self._missing_migrations(), set())

    async def all_work(self) -> None:
        """Wait until each worker has worked another turn."""
        await self._have_worked(self.workers)

    async def end_all(self) -> None:
        """End the new workers in order."""
        for worker in self.workers:
            await self._end(worker, "worker", signal.SIGTERM)

    def judge(self, verdict: Verdict) -> None:
        """Add what the drill has seen."""
        everybody = [*self.kernels.values(), *self.workers]
        left = [f"{one.incarnation} with status {status}" for one in everybody for _, status in one.left]
        verdict.must_be_empty("workers and kernels that ended by themselves", left)
        verdict.must_be_empty("steps that went wrong", self.faults)

    # ------------------------------------------------------------ kernels

    async def _start_kernel(self, version: str, port: int) -> None:
        environ = {
            "PG_DSN": self.dsn,
            "CG_PORT": str(port),
            "CG_CLAIM_TIMEOUT_SECONDS": str(LEASE_SECONDS),
            "CG_LOG_LEVEL": "info",
        }
        kernel = self._servant(f"{version}-kernel-{self.ports.index(port) + 1}", version, _KERNEL, environ)
        await kernel.start()
        await self._until(lambda: bool(kernel.left) or _listens(port), f"{kernel.name} does not start")
        if kernel.left:
            raise RuntimeError(f"{kernel.name} ended; see {self.folder}")
        self.kernels[port] = kernel

    async def _must_be_refused(self) -> None:
        """An old kernel cannot be started on the new schema."""
        environ = {"PG_DSN": self.dsn, "CG_PORT": str(free_ports(1)[0])}
        kernel = self._servant("old-kernel-again", "old", _KERNEL, environ)
        await kernel.start()
        with suppress(TimeoutError):
            await self._until(lambda: bool(kernel.left), "an old kernel starts on the new schema")
        self._expect("an old kernel on the new schema ends", [bool(s) for _, s in kernel.left], [True])

    async def _missing_migrations(self) -> set[str]:
        connection = await asyncpg.connect(self.dsn)
        try:
            rows = await connection.fetch("select name from cg_migrations")
        finally:
            await connection.close()
        known = {migration.name for migration in known_migrations()}
        return {name.removesuffix(".sql") for name in known - {row["name"] for row in rows}}

    # ------------------------------------------------------------ workers

    async def _start_workers(self, version: str) -> list[Servant]:
        begun = []
        for place, machine, agent in _WORKERS:
            environ = {
                "SOAK_AGENT": agent,
                "SOAK_TOKEN": self.tokens[agent],
                "SOAK_BASE_URL": f"http://127.0.0.1:{self.ports[place]}",
                "SOAK_CONCURRENCY": str(CONCURRENCY),
                "SOAK_METRICS_PORT": str(free_ports(1)[0]),
                "SOAK_LOGS": str(self.folder),
                "SOAK_OUTBOX": str(self.folder / machine / "outbox"),
                "SOAK_PRIVATE": str(self.folder / "private"),
                "SOAK_JOURNAL": str(self.journal),
                "XDG_STATE_HOME": str(self.folder / machine),
                "TMPDIR": str(self.folder),
            }
            begun.append(self._servant(f"{machine}-{agent}-{version}{place + 1}", version, _WORKER, environ))
        for worker in begun:
            await worker.start()
        self.workers += begun
        return begun

    async def _have_worked(self, workers: Iterable[Servant]) -> None:
        """Wait until each of them has ended a turn that it began after now."""
        since = time.monotonic()
        for worker in workers:

            def has_worked(name: str = worker.incarnation) -> bool:
                runs = (run for run in read_runs(self.journal) if run.worker == name)
                return any(run.started_at > since and run.done_at for run in runs)

            await self._until(has_worked, f"{worker.incarnation} works no turn")

    # ------------------------------------------------------------ both

    def _servant(self, name: str, version: str, module: tuple[str, ...], environ: dict[str, str]) -> Servant:
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "ROLLING": self.mark, **environ}
        if version == "old":
            return self.old.servant(name, module, environ, self.folder)
        return Servant(name, [sys.executable, "-m", *module], environ, self.folder)

    async def _end(self, servant: Servant, kind: str, number: signal.Signals | None = None) -> None:
        number = number or self.ending
        what = f"{'kill' if number is signal.SIGKILL else 'drain'} {kind}"
        deed = Deed(what, servant.incarnation, time.monotonic())
        self.deeds.append(deed)
        status = await servant.end(number)
        deed.ended_at = time.monotonic()
        if number is signal.SIGTERM:
            self._expect(f"{servant.incarnation} ends", status, 0)

    def _expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.faults.append(f"{what}: {found}, not {wanted}")

    async def _until(self, is_so: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + _WAIT_SECONDS
        while not is_so():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{otherwise}; see {self.folder}")
            await asyncio.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@asynccontextmanager
async def set_up(folder: Path, old: OldVersion, ending: signal.Signals) -> AsyncIterator[Drill]:
    """A database of the old version; at the end, however it comes, every process is ended by its number."""
    postgres = EmbeddedPostgres(folder / "postgres")
    mark = uuid.uuid4().hex
    try:
        dsn = await asyncio.to_thread(postgres.start)
        tokens = await old.seed(dsn)
        yield Drill(folder, old, ending, dsn, tokens, mark)
    finally:
        signal_all(marked(f"ROLLING={mark}"), signal.SIGKILL)
        await asyncio.to_thread(postgres.stop)
