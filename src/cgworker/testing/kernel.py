"""A real kernel in the process: the application, its server and a real PostgreSQL.

The kernel runs in its own thread, since the database driver supports only asyncio; tests may run on trio.
"""

from __future__ import annotations

import asyncio
import copy
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar, Unpack

import anyio
import anyio.to_thread

from cgworker.client import KernelClient
from cgworker.kernel.app import Kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.server import KernelServer, bind, serve
from cgworker.kernel.store.agents import register_agent
from cgworker.kernel.store.credentials import issue_credential
from cgworker.kernel.store.postgres.database import Database
from cgworker.testing.databases import fresh_database
from cgworker.testing.faults import Faults, per_project
from cgworker.testing.kernel_clock import move_clock
from cgworker.wire.agents import AgentSpec, Provenance
from cgworker.wire.credentials import IssueCredential
from cgworker.wire.order import Order
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.turns import CONVERSATION_KIND, Dispatch, RootRequest, TurnSnapshot

T = TypeVar("T")

_START_SECONDS = 60.0

END_LEASE = """
update cg_turns set claim_expires_at = cg_clock() - interval '1 second'
where project_id = $1 and turn_number = $2 and state = 'running'
"""


def _new_project_id() -> str:
    return f"p-{secrets.token_hex(4)}"


class LocalKernel:
    """A running kernel, made by `local_kernel`.

    Attributes:
        base_url: the kernel's address.
        project_id: the project of its agents.
        faults: faults to inject into the project's requests.
    """

    def __init__(self, base_url: str, kernel: Kernel, faults: dict[str, Faults]) -> None:
        self.base_url = base_url
        self.project_id: str = _new_project_id()
        self.faults: Faults = Faults(self._end_lease)
        self._kernel = kernel
        self._database = kernel.database
        self._faults_by_project = faults
        self._loop = asyncio.get_running_loop()
        self._tokens: dict[str, str] = {}
        self._clients: list[KernelClient] = []
        faults[self.project_id] = self.faults

    def new_project(self) -> LocalKernel:
        """Return the same kernel with a new project, with its own agents, turns, clients and faults.

        Its `aclose()` closes its own clients.
        """
        project = copy.copy(self)
        faults = Faults(self._end_lease)
        vars(project).update(project_id=_new_project_id(), faults=faults, _tokens={}, _clients=[])
        self._faults_by_project[project.project_id] = faults
        return project

    async def agent(
        self,
        agent_id: str,
        *,
        capacity: int = 1,
        kinds: Sequence[str] = (CONVERSATION_KIND,),
        grants: Sequence[str] = (),
    ) -> KernelClient:
        """Return a client with the agent's identity; register the agent if it is new.

        The client may be closed earlier; otherwise it is closed with the kernel.

        Args:
            agent_id: the agent.
            capacity: how many turns the agent may have running at once.
            kinds: the turn kinds that the agent takes.
            grants: what the agent may do beyond its own turns.
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
        client = KernelClient(self.base_url, agent=ref, token=self._tokens[agent_id])
        self._clients.append(client)
        return client

    async def dispatch(
        self,
        agent_id: str,
        input: Any,
        *,
        key: str | None = None,
        kind: str = CONVERSATION_KIND,
        **order: Unpack[Order],
    ) -> TurnRef:
        """Dispatch a turn to an agent, as the agent `requester`.

        Args:
            agent_id: the agent that gets the turn.
            input: any JSON value, or an object of a class with fields.
            key: the dispatch key; None makes a new one.
            kind: the turn kind.
            order: when and in which order the turn is claimed, as in `Dispatch`: `not_before` or
                `delay_seconds`, `priority`, `serial_key`, `fairness_key`.
        """
        async with await self.agent("requester") as requester:
            anchor = key or secrets.token_hex(8)
            return await requester.turns.dispatch(
                Dispatch(
                    requested_by=AgentRef(project_id=self.project_id, agent_id="requester"),
                    target_agent=AgentRef(project_id=self.project_id, agent_id=agent_id),
                    input=input,
                    turn_kind=kind,
                    dispatch_key=anchor,
                    authority=RootRequest(request_id=anchor),
                    **order,
                )
            )

    async def closed(self, turn: TurnRef, *, within_seconds: float = 60.0) -> TurnSnapshot:
        """Wait until the turn is closed, and return it.

        Args:
            turn: the turn.
            within_seconds: how long to wait.

        Raises:
            TimeoutError: the turn is not closed by then.
        """
        async with await self.agent("requester") as requester:
            with anyio.fail_after(within_seconds):
                found = await requester.turns.get(turn)
                while found.state != "closed":
                    found = await requester.turns.get(turn, state=found.state, wait_seconds=20)
        return found

    async def advance(self, seconds: float) -> None:
        """Advance the kernel's clock, and do at once what becomes due: no test has to wait for a day.

        Leases that end meanwhile have ended, including those of running handlers, whose workers lose them.
        Other clocks do not move: an `asyncio.sleep` in a handler takes as long as before. The clock belongs
        to the kernel, and so to all its projects.

        Args:
            seconds: how far; at least 0.

        Raises:
            ValueError: `seconds` is negative.
        """
        if seconds < 0:
            raise ValueError(f"the clock goes forward only, not by {seconds:g} s")
        await self._in_loop(self._advance(seconds))

    async def _advance(self, seconds: float) -> None:
        await move_clock(self._database, seconds)
        await self._kernel.do_what_is_due()

    async def aclose(self) -> None:
        """Close the clients that were handed out; `local_kernel` calls this."""
        for client in self._clients:
            await client.aclose()

    async def _end_lease(self, turn: TurnRef) -> None:
        number = int(turn.turn_id.removeprefix("T-"))
        await self._in_loop(self._database.execute(END_LEASE, turn.project_id, number))

    async def _admit(self, ref: AgentRef, spec: AgentSpec) -> str:
        operator = AgentRef(project_id=ref.project_id, agent_id="operator")
        provenance = Provenance(kind="cgworker.testing", external_ref="local_kernel")
        await register_agent(self._database, operator, spec, provenance)
        return (await issue_credential(self._database, ref, IssueCredential(), issued_by=None)).token

    async def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine in the kernel's own event loop."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        return await anyio.to_thread.run_sync(future.result)


@asynccontextmanager
async def local_kernel(
    *, lease_seconds: float = 30.0, reaper_seconds: float | None = None, postgres: str | None = None
) -> AsyncIterator[LocalKernel]:
    """Run a kernel with its own database, on loopback, until the block ends. Works on asyncio and trio.

    Args:
        lease_seconds: the length of a lease.
        reaper_seconds: how often the kernel looks for ended leases; by default a sixth of a lease, 0 is
            never.
        postgres: the address of a PostgreSQL on which databases may be created; by default an embedded one,
            which all kernels of this process share.

    Yields:
        The running kernel.

    Raises:
        UsageError: there is no PostgreSQL that can be used.
    """
    chosen: dict[str, Any] = (
        {} if reaper_seconds is None else {"claim_reaper_interval_seconds": reaper_seconds}
    )
    config = KernelConfig(
        port=0, log_level="critical", claim_timeout_seconds=lease_seconds, pool_size=8, **chosen
    )
    served = _Served(config, postgres)
    try:
        kernel = await anyio.to_thread.run_sync(served.start)
        try:
            yield kernel
        finally:
            with anyio.CancelScope(shield=True):
                await kernel.aclose()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(served.stop)


class _Served:
    """The thread in which a local kernel runs."""

    def __init__(self, config: KernelConfig, postgres: str | None) -> None:
        self._config = config
        self._postgres = postgres
        self._thread = threading.Thread(target=self._run, name="cgworker-local-kernel", daemon=True)
        self._settled = threading.Event()
        self._kernel: LocalKernel | None = None
        self._end: Callable[[], object] = lambda: None
        self._error: BaseException | None = None

    def start(self) -> LocalKernel:
        """Start the thread, and return once the kernel answers."""
        self._thread.start()
        self._settled.wait(_START_SECONDS)
        if self._error is not None:
            raise self._error
        if self._kernel is None:
            raise TimeoutError(f"the local kernel did not start within {_START_SECONDS:g} s")
        return self._kernel

    def stop(self) -> None:
        """Stop the server and the thread; the database is dropped by then."""
        if self._thread.is_alive():
            self._end()
        self._thread.join(_START_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._settled.set()

    async def _serve(self) -> None:
        async with (
            fresh_database(self._postgres) as dsn,
            Database.open(dsn, pool_size=self._config.pool_size) as database,
        ):
            listener = bind("127.0.0.1", 0)
            faults: dict[str, Faults] = {}
            base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"

            def ready(server: KernelServer) -> None:
                loop = asyncio.get_running_loop()
                self._kernel = LocalKernel(base_url, server.kernel, faults)
                self._end = lambda: loop.call_soon_threadsafe(server.stop)
                self._settled.set()

            await serve(self._config, database, listener, wrap=partial(per_project, faults), ready=ready)
