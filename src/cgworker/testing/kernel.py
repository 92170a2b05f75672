"""A real kernel in the process: the application, its server and a real PostgreSQL, from nothing.

It runs in a thread of its own, since the database driver knows asyncio only; tests may run on trio.
"""

from __future__ import annotations

import asyncio
import atexit
import secrets
import tempfile
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import anyio
import anyio.to_thread

from cgworker.client import KernelClient
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.serve import KernelServer, bind, serve
from cgworker.kernel.store.agents import register_agent
from cgworker.kernel.store.credentials import issue_credential
from cgworker.kernel.store.embedded import EmbeddedPostgres
from cgworker.kernel.store.opening import open_database
from cgworker.kernel.store.postgres import Database
from cgworker.testing.faults import Faults
from cgworker.wire.agents import AgentSpec, Provenance
from cgworker.wire.credentials import IssueCredential
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.turns import CONVERSATION_KIND, Dispatch, RootRequest

T = TypeVar("T")

_START_SECONDS = 60.0

END_LEASE = """
update cg_turns set claim_expires_at = clock_timestamp() - interval '1 second'
where project_id = $1 and turn_number = $2 and state = 'running'
"""


class LocalKernel:
    """A running kernel. Made by `local_kernel`.

    Attributes:
        project_id: the project its agents are made in.
        faults: what goes wrong, on demand.
    """

    def __init__(self, config: KernelConfig, database: Database, project_id: str) -> None:
        self._config = config
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._server: KernelServer | None = None
        self._port = 0
        self._tokens: dict[str, str] = {}
        self.project_id = project_id
        self.faults = Faults()

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    async def agent(
        self,
        agent_id: str,
        *,
        capacity: int = 1,
        kinds: Sequence[str] = (CONVERSATION_KIND,),
        grants: Sequence[str] = (),
    ) -> KernelClient:
        """A client with the agent's identity; the agent is registered if it is new.

        Args:
            capacity: how many turns it may have running at once.
            kinds: the turn kinds it takes.
            grants: what it may do beyond its own turns.
        """
        ref = AgentRef(project_id=self.project_id, agent_id=agent_id)
        if agent_id not in self._tokens:
            spec = AgentSpec(
                agent_id=agent_id,
                role="tester",
                capacity=capacity,
                capabilities=tuple(kinds),
                grants=tuple(grants),
            )
            self._tokens[agent_id] = await self._in_loop(self._admit(ref, spec))
        return KernelClient(self.base_url, agent=ref, token=self._tokens[agent_id])

    async def dispatch(
        self, agent_id: str, input: Any, *, key: str | None = None, kind: str = CONVERSATION_KIND
    ) -> TurnRef:
        """Give an agent a turn, as the agent `requester`."""
        async with await self.agent("requester") as requester:
            assert requester.agent is not None
            anchor = key or secrets.token_hex(8)
            return await requester.turns.dispatch(
                Dispatch(
                    requested_by=requester.agent,
                    target_agent=AgentRef(project_id=self.project_id, agent_id=agent_id),
                    input=input,
                    turn_kind=kind,
                    dispatch_key=anchor,
                    authority=RootRequest(request_id=anchor),
                )
            )

    async def steal_lease(self, turn: TurnRef) -> None:
        """End the lease of a running turn now, as if its holder had been away for too long."""
        number = int(turn.turn_id.removeprefix("T-"))
        await self._in_loop(self._database.execute(END_LEASE, turn.project_id, number))

    async def _admit(self, ref: AgentRef, spec: AgentSpec) -> str:
        operator = AgentRef(project_id=ref.project_id, agent_id="operator")
        provenance = Provenance(kind="cgworker.testing", external_ref="local_kernel")
        await register_agent(self._database, operator, spec, provenance)
        return (await issue_credential(self._database, ref, IssueCredential(), issued_by=None)).token

    async def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something in the kernel's own event loop."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        return await anyio.to_thread.run_sync(future.result)

    async def _serve(self, started: threading.Event) -> None:
        listener = bind("127.0.0.1", self._port)
        self._port = listener.getsockname()[1]

        def ready(server: KernelServer) -> None:
            self._server = server
            started.set()

        await serve(self._config, self._database, listener, wrap=self.faults.wrap, ready=ready)

    def _stop(self) -> None:
        if self._server is not None:
            self._loop.call_soon_threadsafe(self._server.stop)


@asynccontextmanager
async def local_kernel(
    *, lease_seconds: float = 30.0, reaper_seconds: float | None = None, postgres: str | None = None
) -> AsyncIterator[LocalKernel]:
    """A kernel on a database of its own, on loopback, until the block ends. Works on asyncio and trio.

    Args:
        lease_seconds: the length of a lease.
        reaper_seconds: how often ended leases are looked for; by default a sixth of a lease, 0 is never.
        postgres: a PostgreSQL on which databases may be made; by default an embedded one, which all
            kernels of this process share.
    """
    running = _Running(lease_seconds, reaper_seconds, postgres)
    thread = threading.Thread(target=running.run, name="cgworker-local-kernel", daemon=True)
    thread.start()
    try:
        yield await anyio.to_thread.run_sync(running.wait)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(running.stop, thread)


class _Running:
    """The thread's side of a local kernel."""

    def __init__(self, lease: float, reaper: float | None, postgres: str | None) -> None:
        chosen: dict[str, Any] = {} if reaper is None else {"claim_reaper_interval_seconds": reaper}
        self._config = KernelConfig(
            port=0, log_level="critical", claim_timeout_seconds=lease, pool_size=8, **chosen
        )
        self._postgres = postgres
        self._started = threading.Event()
        self._kernel: LocalKernel | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self._error = error
        finally:
            self._started.set()

    def wait(self) -> LocalKernel:
        self._started.wait(_START_SECONDS)
        if self._error is not None:
            raise self._error
        if self._kernel is None:
            raise TimeoutError(f"the local kernel did not start within {_START_SECONDS:g} s")
        return self._kernel

    def stop(self, thread: threading.Thread) -> None:
        if self._kernel is not None:
            self._kernel._stop()  # noqa: SLF001  # same file
        thread.join(_START_SECONDS)

    async def _run(self) -> None:
        server = self._postgres or _embedded_postgres()
        async with (
            _database(server, template=await asyncio.to_thread(_template, server)) as dsn,
            Database.open(dsn, pool_size=self._config.pool_size) as database,
        ):
            self._kernel = LocalKernel(self._config, database, f"p-{secrets.token_hex(4)}")
            await self._kernel._serve(self._started)  # noqa: SLF001  # same file


# ---------------------------------------------------------------- databases


_once = threading.Lock()


def _embedded_postgres() -> str:
    with _once:
        return _start_embedded()


@cache
def _start_embedded() -> str:
    folder = tempfile.TemporaryDirectory(prefix="cg-")
    server = EmbeddedPostgres(Path(folder.name), durable=False)

    def end() -> None:
        server.stop()
        folder.cleanup()

    atexit.register(end)
    return server.start()


def _template(server: str) -> str:
    """A migrated database to copy; made once per process and server."""
    with _once:
        return _make_template(server)


@cache
def _make_template(server: str) -> str:
    name = f"cg_template_{secrets.token_hex(4)}"
    asyncio.run(_create_template(server, name))
    return name


async def _create_template(server: str, name: str) -> None:
    await _execute(server, f'create database "{name}"')
    async with open_database(KernelConfig(pg_dsn=_address(server, name), pool_size=1)):
        pass  # opening it migrates it


@asynccontextmanager
async def _database(server: str, *, template: str) -> AsyncIterator[str]:
    name = f"cg_local_{secrets.token_hex(6)}"
    await _execute(server, f'create database "{name}" template "{template}"')
    try:
        yield _address(server, name)
    finally:
        await _execute(server, f'drop database "{name}" with (force)')


def _address(server: str, name: str) -> str:
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


async def _execute(server: str, statement: str) -> None:
    async with Database.open(server, pool_size=1) as database:
        await database.execute(statement)
