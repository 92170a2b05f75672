"""A kernel with admission, served on a socket, for tests of what strangers may send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager

from anyio.from_thread import start_blocking_portal
from attrs import frozen

from cgworker.kernel.app import Kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.openapi.operation import Operation
from cgworker.kernel.routes.admission import admission_routes
from cgworker.kernel.server import KernelServer, bind, serve
from cgworker.kernel.store.agents import register_agent
from cgworker.kernel.store.credentials import issue_credential
from cgworker.kernel.store.postgres.database import Database
from cgworker.wire.agents import AgentSpec, Provenance
from cgworker.wire.credentials import IssueCredential
from cgworker.wire.refs import AgentRef

PROJECT = "p-served"
BEARER = "the-operators-bearer"
GRANTS = (
    "agent.registration.birth",
    "agent.credential.issue.any",
    "agent.credential.revoke.any",
    "agent.accepts_work.update.any",
    "turn.dispatch.any",
    "turn.resume.any",
    "turn.stop.any",
)


@frozen(kw_only=True)
class Served:
    """Where it listens, and the headers of those who may call, by name: "worker", "admin-service"."""

    port: int
    callers: Mapping[str, Mapping[str, str]]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def its_admission(config: KernelConfig) -> list[Operation]:
    """The routes of its admission service."""
    return admission_routes(config, project_id=PROJECT, bearer=BEARER)


@contextmanager
def a_served_kernel(dsn: str) -> Iterator[Served]:
    """A kernel in a thread of its own, until the block ends."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(_serving(dsn)) as served:
        yield served


@asynccontextmanager
async def _serving(dsn: str) -> AsyncIterator[Served]:
    config = KernelConfig(max_wait_seconds=0.2, redeems_per_minute=0, pool_size=4)
    listener = bind("127.0.0.1", 0)
    ready: asyncio.Future[KernelServer] = asyncio.get_running_loop().create_future()

    async def more_routes(kernel: Kernel) -> Sequence[Operation]:
        return its_admission(kernel.config)

    async with Database.open(dsn, pool_size=config.pool_size) as database:
        callers = {
            "worker": await _admit(database, "worker", ()),
            "admin-service": await _admit(database, "admin-service", GRANTS),
        }
        port = listener.getsockname()[1]
        serving = asyncio.create_task(
            serve(config, database, listener, more_routes=more_routes, ready=ready.set_result)
        )
        server = await ready
        yield Served(port=port, callers=callers)
        server.stop()
        await serving


async def _admit(database: Database, agent_id: str, grants: tuple[str, ...]) -> dict[str, str]:
    ref = AgentRef(project_id=PROJECT, agent_id=agent_id)
    spec = AgentSpec(
        agent_id=agent_id, role="tester", capabilities=("turn.conversation.v1",), capacity=1000, grants=grants
    )
    await register_agent(database, ref, spec, Provenance(kind="test", external_ref="test"))
    issued = await issue_credential(database, ref, IssueCredential(), issued_by=None)
    return {
        "X-CG-Project-Id": PROJECT,
        "X-CG-Agent-Id": agent_id,
        "Authorization": f"Bearer {issued.token}",
    }
