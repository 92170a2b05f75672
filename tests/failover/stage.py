"""The stage of a drill: two kernels on servers that may die, and clients of both."""

from __future__ import annotations

import asyncio
import os
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
_LOOPS = 24
_START_SECONDS = 60.0
_COMMAND = [sys.executable, "-m", "cgworker", "service", "run"]


@define
class Stage:
    """Everything but the servers. Made by `set_up`."""

    folder: Path
    kernels: list[Servant]
    base_urls: list[str]
    traffic: Traffic

    async def are_ready(self) -> None:
        """Wait until all kernels are ready.

        Raises:
            TimeoutError: one does not start.
        """
        async with httpx.AsyncClient(timeout=5) as client, asyncio.timeout(_START_SECONDS):
            for base_url in self.base_urls:
                while not await _is_ready(client, base_url):  # noqa: ASYNC110  # it can only be asked
                    await asyncio.sleep(0.05)


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
async def set_up(folder: Path, dsn: str, *, turns_per_second: float) -> AsyncIterator[Stage]:
    """Start two kernels on the database of `dsn`, and their clients; at the end all of them are ended.

    Args:
        folder: where logs go.
        dsn: the address of the database; it is migrated here.
        turns_per_second: how many turns are dispatched, once the drill says so.
    """
    async with open_database(KernelConfig(pg_dsn=dsn, pool_size=2)) as database:
        tokens = await admit_agents(database, _CAPACITIES)
    mark, ports = uuid.uuid4().hex, free_ports(2)
    kernels = [
        Servant(f"kernel-{number}", _COMMAND, _environ(mark, dsn, port), folder)
        for number, port in enumerate(ports, 1)
    ]
    base_urls = [f"http://127.0.0.1:{port}" for port in ports]
    async with AsyncExitStack() as stack:

        async def client(agent_id: str, base_url: str) -> KernelClient:
            agent = AgentRef(project_id=PROJECT, agent_id=agent_id)
            return await stack.enter_async_context(
                KernelClient(base_url, agent=agent, token=tokens[agent_id])
            )

        try:
            for kernel in kernels:
                await kernel.start()
            traffic = Traffic(
                [await client("requester", base_url) for base_url in base_urls],
                [await client("desk", base_urls[number % 2]) for number in range(_LOOPS)],
                AgentRef(project_id=PROJECT, agent_id="desk"),
                turns_per_second,
            )
            stage = Stage(folder, kernels, base_urls, traffic)
            await stage.are_ready()
            yield stage
        finally:
            for kernel in kernels:
                if kernel.number:
                    await kernel.end(signal.SIGKILL)
            signal_all(marked(f"SOAK_RUN={mark}"), signal.SIGKILL)


def _environ(mark: str, dsn: str, port: int) -> Mapping[str, str]:
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ},
        "SOAK_RUN": mark,
        "PG_DSN": dsn,
        "CG_PORT": str(port),
        "CG_CLAIM_TIMEOUT_SECONDS": str(LEASE_SECONDS),
        "CG_LOG_LEVEL": "warning",
    }
