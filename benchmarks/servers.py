"""Servers to measure: a PostgreSQL of the benchmark's own, our kernel on it, and the reference's.

Peers live in environments of their own, made by `make bench-peers`; one that is not there is named in the
findings and never replaced by something else.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
from attrs import frozen

from benchmarks.measuring import Options
from cgworker import AgentRef, KernelClient
from cgworker.errors import ConflictError
from cgworker.kernel.server import bind
from cgworker.kernel.store.postgres.embedded import EmbeddedPostgres
from cgworker.wire.agents import AgentSpec, Provenance
from cgworker.wire.credentials import IssueCredential
from cgworker.wire.turns import CONVERSATION_KIND

PROJECT = "cg-demo"
ROOT = Path(__file__).parents[1]

_PEERS = ROOT / ".peers"
_REFERENCE_SERVER = Path(__file__).with_name("reference_server.py")
_START_SECONDS = 60.0
_END_SECONDS = 20.0


# ---------------------------------------------------------------- peers


def peer_python(name: str) -> str | None:
    """The Python that a peer is installed for, or None.

    Args:
        name: "reference" (commonground-kernel), "queues" (pgqueuer, procrastinate), "harnesses"
            (dbos-openai-agents) or "baseline" (the build of this package that rows 3 and 11 compare with). A
            variable CG_REFERENCE_PYTHON, CG_QUEUES_PYTHON, CG_HARNESSES_PYTHON or CG_BASELINE_PYTHON names
            another than the one `make bench-peers` makes.
    """
    named = os.environ.get(f"CG_{name.upper()}_PYTHON")
    python = Path(named) if named else _PEERS / name / "bin" / "python"
    return str(python) if python.exists() else None


def absent(name: str) -> str:
    """How findings tell that a peer is not there."""
    return f"{name} is not installed: run `make bench-peers`"


# ---------------------------------------------------------------- PostgreSQL


@frozen
class Postgres:
    """A PostgreSQL server, as durable as it comes; `pid` is its first process."""

    dsn: str
    pid: int


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """An embedded PostgreSQL in a folder that is deleted at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="cg-") as folder,
        EmbeddedPostgres(folder) as server,
    ):
        pid = int((server.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        yield Postgres(server.dsn, pid)


async def new_database(postgres: Postgres) -> str:
    """The address of a new, empty database on the server."""
    name = f"bench_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute(f'create database "{name}"')
    await connection.close()
    return urlunsplit(urlsplit(postgres.dsn)._replace(path=f"/{name}"))


# ---------------------------------------------------------------- kernels


@frozen
class Server:
    """A kernel that answers; `pid` is None where it was not started here."""

    url: str
    project_id: str
    operator_token: str
    pid: int | None = None

    async def admit(
        self,
        agent_id: str,
        *,
        capacity: int = 1,
        grants: tuple[str, ...] = (),
        capabilities: tuple[str, ...] = (CONVERSATION_KIND,),
    ) -> Agent:
        """Register an agent, if it is new, and issue a credential for it."""
        ref = AgentRef(project_id=self.project_id, agent_id=agent_id)
        spec = AgentSpec(
            agent_id=agent_id,
            role="bench",
            capacity=capacity,
            capabilities=capabilities,
            grants=grants,
        )
        async with self.client(self.operator) as kernel:
            with suppress(ConflictError):  # registered by an earlier run against the same kernel
                await kernel.agents.register(
                    self.project_id, spec, Provenance(kind="bench", external_ref="bench")
                )
            return Agent(ref, (await kernel.credentials.issue(ref, IssueCredential())).token)

    def client(self, agent: Agent) -> KernelClient:
        """Our client of it."""
        return KernelClient(self.url, agent=agent.ref, token=agent.token, timeout_seconds=30)

    @property
    def operator(self) -> Agent:
        """The agent that admits others."""
        return Agent(AgentRef(project_id=self.project_id, agent_id="admin-service"), self.operator_token)


@frozen
class Agent:
    """Who calls, and with what."""

    ref: AgentRef
    token: str


@asynccontextmanager
async def kernel_of(options: Options, postgres: Postgres | None = None) -> AsyncIterator[Server]:
    """The kernel that a row measures: the one it was told of, or else a new one.

    Args:
        postgres: where a new one has its database; by default on a server of its own.
    """
    if options.url and options.credential_file:
        yield Server(options.url, options.project_id, options.credential_file.read_text().strip())
    elif postgres is None:
        with running_postgres() as its_own, running_kernel(await new_database(its_own)) as server:
            yield server
    else:
        with running_kernel(await new_database(postgres)) as server:
            yield server


@contextmanager
def running_kernel(dsn: str, *, python: str | None = None, **env: str) -> Iterator[Server]:
    """Our kernel as `cg local run` starts it, with these variables.

    Args:
        python: one that has another build of cgworker; by default the one that runs this.
    """
    with _a_server([python or sys.executable, "-m", "cgworker"], dsn, env) as server:
        yield server


@contextmanager
def running_reference(
    python: str, dsn: str, *, storage: Literal["published", "pooled", "open"] = "pooled"
) -> Iterator[Server]:
    """The reference's server with its two faults mended.

    Args:
        python: the reference's.
        dsn: its database.
        storage: "published" replays the DDL at each operation, as it comes; "pooled" does not;
            "open" also keeps one connection pool, which it cannot do by itself.
    """
    env = {"CG_REFERENCE_STORAGE": storage}
    with _a_server([python, str(_REFERENCE_SERVER)], dsn, env, needs_seed=True) as server:
        yield server


@contextmanager
def _a_server(
    program: list[str], dsn: str, env: Mapping[str, str], *, needs_seed: bool = False
) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="cg-") as home, (Path(home) / "log").open("w+") as log:
        environment = {**own_environment(home), "PG_DSN": dsn, **env}
        if needs_seed:
            seed = ["setup", "project", "seed", "--project-id", PROJECT]
            subprocess.run([*program, *seed], env=environment, stdout=log, stderr=log, check=True, timeout=60)
        port = free_port()
        process = subprocess.Popen(
            [*program, "local", "run", "--project-id", PROJECT, "--port", str(port)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}", process, Path(log.name))
            yield Server(f"http://127.0.0.1:{port}", PROJECT, _operator_token(Path(home)), process.pid)
        finally:
            end(process)


def own_environment(home: str) -> dict[str, str]:
    """The variables of a process, without any that lead to the user's own kernel, database or files."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("CG_", "PG", "XDG_"))}
    return {**kept, "HOME": home}


def _operator_token(home: Path) -> str:
    folder = home / ".local/share/commonground/operator/projects" / PROJECT
    return (folder / "admin-service.cgac").read_text().strip()


def free_port() -> int:
    """A port that nobody listens on."""
    with bind("127.0.0.1", 0) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _is_ready(url):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"no kernel at {url}: {log.read_text()[-2000:]}")
        time.sleep(0.02)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def end(process: subprocess.Popen[Any]) -> None:
    """End it as a user would, and wait until it has."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
