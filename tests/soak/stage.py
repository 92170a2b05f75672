"""The stage: a PostgreSQL, kernels on it, a proxy before them, and workers on two machines."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from itertools import chain, cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, field

from cgworker import AgentRef, KernelClient
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.store.agents import register_agent
from cgworker.kernel.store.credentials import issue_credential
from cgworker.kernel.store.postgres.connect import open_database
from cgworker.kernel.store.postgres.database import Database
from cgworker.kernel.store.postgres.embedded import EmbeddedPostgres
from cgworker.kernel.store.seed import admin_service_of, seed_project
from cgworker.wire.agents import AgentSpec, Provenance
from cgworker.wire.credentials import IssueCredential
from cgworker.wire.turns import CONVERSATION_KIND
from tests.soak.harnesses import present
from tests.soak.processes import Servant, marked, signal_all
from tests.soak.proxy import Proxy

if TYPE_CHECKING:
    from tests.adapters.a2a_agent import Agent

PROJECT = "soak"
LEASE_SECONDS = 3.0
CONCURRENCY = 2  # of a worker

_START_SECONDS = 120.0

HELD_SLOTS = "select agent_id, held_count from cg_agents where held_count <> 0"

# Machine and agent of each worker; workers of a machine share its outbox, and all share the private store.
# `shop` runs commands, `lab` agents of frameworks. Further workers are of `desk` and `shop`, because a
# framework takes seconds to load.
_WORKERS = ("east-desk", "west-desk", "east-shop", "west-shop", "east-lab", "west-lab")
_FURTHER_WORKERS = ("east-desk", "west-desk", "east-shop", "west-shop")


@define
class Stage:
    """Everything that runs. Made by `set_up`. `remote` is the remote agent, if its package is here."""

    folder: Path
    mark: str
    postgres: EmbeddedPostgres
    proxy: Proxy
    base_url: str
    tokens: dict[str, str]
    remote: Agent | None = None
    kernels: list[Servant] = field(factory=list)
    workers: list[Servant] = field(factory=list)
    metrics_ports: list[int] = field(factory=list)

    @property
    def journal(self) -> Path:
        """Where handlers tell of their runs."""
        return self.folder / "journal"

    def requester(self, *, directly: bool = False) -> KernelClient:
        """The agent that dispatches, through the proxy or past it."""
        base_url = f"http://127.0.0.1:{self.proxy.ports[0]}" if directly else self.base_url
        agent = AgentRef(project_id=PROJECT, agent_id="requester")
        return KernelClient(base_url, agent=agent, token=self.tokens["requester"])

    async def held_slots(self) -> list[str]:
        """The agents that the database takes to be at work."""
        async with open_database(KernelConfig(pg_dsn=self.postgres.dsn, pool_size=1)) as database:
            rows = await database.fetch(HELD_SLOTS)
        return [f"{row['agent_id']}: {row['held_count']}" for row in rows]

    async def kernel_is_up(self, kernel: Servant) -> None:
        """Wait until a kernel takes connections.

        Raises:
            TimeoutError: it does not, or has ended.
        """
        port = self.proxy.ports[self.kernels.index(kernel)]
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and not kernel.left:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{kernel.incarnation} does not start; see {kernel.logs}")

    async def worker_is_up(self, worker: Servant) -> None:
        """Wait until a worker listens to signals.

        Raises:
            TimeoutError: it does not, or has ended.
        """
        deadline = time.monotonic() + _START_SECONDS
        while not worker.is_up:
            if time.monotonic() > deadline or worker.left:
                raise TimeoutError(f"{worker.incarnation} does not start; see {worker.logs}")
            await asyncio.sleep(0.05)


@asynccontextmanager
async def set_up(
    folder: Path, chance: random.Random, *, kernel_count: int, worker_count: int
) -> AsyncIterator[Stage]:
    """Start everything; at the end, however it comes, every process is ended by its number."""
    postgres = EmbeddedPostgres(folder / "postgres")
    proxy = Proxy(free_ports(kernel_count), chance)
    workers = list(islice(chain(_WORKERS, cycle(_FURTHER_WORKERS)), worker_count))
    mark, beside = uuid.uuid4().hex, ExitStack()
    try:
        dsn = await asyncio.to_thread(postgres.start)
        async with open_database(KernelConfig(pg_dsn=dsn, pool_size=2)) as database:
            counts = Counter(name.split("-")[1] for name in workers)
            tokens = await admit_agents(database, _capacities(counts))
        stage = Stage(folder, mark, postgres, proxy, await proxy.start(), tokens)
        stage.kernels = [_kernel(stage, dsn, port) for port in proxy.ports]
        if "a2a" in present():
            from tests.soak.harnesses.a2a import remote_agent

            stage.remote = beside.enter_context(remote_agent())
        stage.metrics_ports = free_ports(worker_count)
        names = (f"{name}-{number}" for number, name in enumerate(workers, 1))
        stage.workers = [_worker(stage, *each) for each in zip(names, stage.metrics_ports, strict=True)]
        for servant in [*stage.kernels, *stage.workers]:
            await servant.start()
        for kernel in stage.kernels:
            await stage.kernel_is_up(kernel)
        for worker in stage.workers:
            await stage.worker_is_up(worker)
        yield stage
    finally:
        await proxy.stop()
        signal_all(marked(f"SOAK_RUN={mark}"), signal.SIGKILL)
        beside.close()
        await asyncio.to_thread(postgres.stop)


def _capacities(workers: Counter[str]) -> dict[str, int]:
    """Of each agent a slot less than its workers have, so that one waits for it."""
    agents = ("requester", "desk", "shop", "lab")
    return {agent: max(1, workers[agent] * CONCURRENCY - 1) for agent in agents}


async def admit_agents(database: Database, capacities: Mapping[str, int]) -> dict[str, str]:
    """Seed the project with agents of these capacities; returns their tokens."""
    await seed_project(database, PROJECT)
    operator, provenance = admin_service_of(PROJECT), Provenance(kind="soak", external_ref="soak")
    tokens = {}
    for name, capacity in capacities.items():
        spec = AgentSpec(agent_id=name, role="soak", capacity=capacity, capabilities=(CONVERSATION_KIND,))
        await register_agent(database, operator, spec, provenance)
        ref = AgentRef(project_id=PROJECT, agent_id=name)
        tokens[name] = (await issue_credential(database, ref, IssueCredential(), issued_by=None)).token
    return tokens


def _kernel(stage: Stage, dsn: str, port: int) -> Servant:
    environ = {
        **_environ(stage),
        "PG_DSN": dsn,
        "CG_PORT": str(port),
        "CG_CLAIM_TIMEOUT_SECONDS": str(LEASE_SECONDS),
        "CG_LOG_LEVEL": "warning",
    }
    name = f"kernel-{stage.proxy.ports.index(port) + 1}"
    return Servant(name, [sys.executable, "-m", "cgworker", "service", "run"], environ, stage.folder)


def _worker(stage: Stage, name: str, metrics_port: int) -> Servant:
    machine, agent, _ = name.split("-")
    environ = {
        **_environ(stage),
        "SOAK_AGENT": agent,
        "SOAK_TOKEN": stage.tokens[agent],
        "SOAK_BASE_URL": stage.base_url,
        "SOAK_CONCURRENCY": str(CONCURRENCY),
        "SOAK_LOGS": str(stage.folder),
        "SOAK_OUTBOX": str(stage.folder / machine / "outbox"),
        "SOAK_PRIVATE": str(stage.folder / "private"),
        "SOAK_METRICS_PORT": str(metrics_port),
        "SOAK_A2A": stage.remote.url if stage.remote else "",
        "HOME": str(stage.folder / machine),
        "XDG_STATE_HOME": str(stage.folder / machine),
        "TMPDIR": str(stage.folder),
    }
    return Servant(name, [sys.executable, "-m", "tests.soak.worker"], environ, stage.folder)


def _environ(stage: Stage) -> dict[str, str]:
    ours = {"SOAK_RUN": stage.mark, "SOAK_JOURNAL": str(stage.journal)}
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ},
        **ours,
    }


def free_ports(count: int) -> list[int]:
    """Ports that were free just now; kernels come back on the same ones."""
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in with_ports]
    for one in with_ports:
        one.close()
    return ports
