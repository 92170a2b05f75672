"""The stage of a drill: two kernels on servers that may die, and a requester and a worker of each."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
from attrs import define

from cgworker import AgentRef, KernelClient
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.store.postgres.connect import open_database
from tests.failover.servers import DATABASE, USER, Server
from tests.failover.traffic import Traffic
from tests.soak.processes import Servant, marked, signal_all
from tests.soak.stage import PROJECT, admit_agents, free_ports

LEASE_SECONDS = 10.0

_CAPACITIES = {"requester": 1, "desk": 1000}
_START_SECONDS = 60.0


@define
class Stage:
    """Everything but the servers. Made by `set_up`."""

    folder: Path
    kernels: list[Servant]
    workers: list[Servant]
    base_urls: list[str]
    traffic: Traffic

    @property
    def journal(self) -> Path:
        """Where workers write down what they were answered."""
        return self.folder / "journal"

    async def start(self) -> None:
        """Start the kernels and, once they are ready, the workers.

        Raises:
            TimeoutError: one does not start.
        """
        async with httpx.AsyncClient(timeout=5) as client, asyncio.timeout(_START_SECONDS):
            for kernel in self.kernels:
                await kernel.start()
            for base_url in self.base_urls:
                while not await _is_ready(client, base_url):  # noqa: ASYNC110  # it can only be asked
                    await asyncio.sleep(0.05)
            for worker in self.workers:
                await worker.start()
            while not all(worker.is_up for worker in self.workers):  # noqa: ASYNC110  # a file says it
                await asyncio.sleep(0.05)

    async def dismiss_workers(self) -> list[str]:
        """Let the workers drain; returns those that did not end well."""
        statuses = {worker.name: await worker.end(signal.SIGTERM) for worker in self.workers}
        return [f"{name} with status {status}" for name, status in statuses.items() if status]

    def results_kept(self) -> list[str]:
        """The files of the outbox in which results wait, and the dead letters."""
        return [str(path) for path in (self.folder / "outbox").rglob("*") if path.is_file()]


async def _is_ready(client: httpx.AsyncClient, base_url: str) -> bool:
    try:
        return (await client.get(f"{base_url}/readyz")).status_code == 200
    except httpx.HTTPError:
        return False


def dsn_of(servers: Sequence[Server]) -> str:
    """The address of several servers, for `PG_DSN`."""
    hosts = ",".join(f"{server.host}:{server.port}" for server in servers)
    return f"postgresql://{USER}@{hosts}/{DATABASE}?sslmode=disable"


@asynccontextmanager
async def set_up(
    folder: Path, dsn: str, *, turns_per_second: float, chance: random.Random
) -> AsyncIterator[Stage]:
    """Start two kernels on the database of `dsn`, with a worker of each; at the end all of them are ended.

    Args:
        folder: where logs go.
        dsn: the address of the database; it is migrated here.
        turns_per_second: how many turns are dispatched, once the drill says so.
        chance: decides which turns take long.
    """
    async with open_database(KernelConfig(pg_dsn=dsn, pool_size=2)) as database:
        tokens = await admit_agents(database, _CAPACITIES)
    environ = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ},
        "SOAK_RUN": uuid.uuid4().hex,
    }
    ports = free_ports(2)
    base_urls = [f"http://127.0.0.1:{port}" for port in ports]
    async with AsyncExitStack() as stack:
        agent = AgentRef(project_id=PROJECT, agent_id="requester")
        requesters = [
            await stack.enter_async_context(KernelClient(url, agent=agent, token=tokens["requester"]))
            for url in base_urls
        ]
        target = AgentRef(project_id=PROJECT, agent_id="desk")
        stage = Stage(
            folder,
            [_kernel(folder, environ, dsn, port) for port in ports],
            [
                _worker(folder, environ, url, tokens["desk"], number)
                for number, url in enumerate(base_urls, 1)
            ],
            base_urls,
            Traffic(requesters, target, turns_per_second, chance),
        )
        try:
            await stage.start()
            yield stage
        finally:
            for servant in [*stage.workers, *stage.kernels]:
                if servant.number:
                    await servant.end(signal.SIGKILL)
            signal_all(marked(f"SOAK_RUN={environ['SOAK_RUN']}"), signal.SIGKILL)


def _kernel(folder: Path, environ: Mapping[str, str], dsn: str, port: int) -> Servant:
    own = {
        "PG_DSN": dsn,
        "CG_PORT": str(port),
        "CG_CLAIM_TIMEOUT_SECONDS": str(LEASE_SECONDS),
        "CG_LOG_LEVEL": "warning",
    }
    command = [sys.executable, "-m", "cgworker", "service", "run"]
    return Servant(f"kernel-{port}", command, {**environ, **own}, folder)


def _worker(folder: Path, environ: Mapping[str, str], base_url: str, token: str, number: int) -> Servant:
    own = {
        "SOAK_LOGS": str(folder),
        "SOAK_JOURNAL": str(folder / "journal"),
        "XDG_STATE_HOME": str(folder / "state"),
        "DRILL_PROJECT": PROJECT,
        "DRILL_AGENT": "desk",
        "DRILL_TOKEN": token,
        "DRILL_BASE_URL": base_url,
        "DRILL_OUTBOX": str(folder / "outbox"),
    }
    command = [sys.executable, "-m", "tests.failover.worker"]
    return Servant(f"worker-{number}", command, {**environ, **own}, folder)
