"""The kernel killed with SIGKILL under the MCP server: what waits goes on when it is back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

pytest.importorskip("mcp_types", reason="mcp 2.3 is not installed here: `make test-mcp` runs these tests")

from mcp_types import ElicitRequestParams, ElicitResult

from cgworker import KernelClient, Turn, Worker
from cgworker.kernel.store.agents import register_agent
from cgworker.kernel.store.credentials import issue_credential
from cgworker.kernel.store.postgres.database import Database
from cgworker.testing.databases import fresh_database
from cgworker.wire.agents import AgentSpec, Provenance
from cgworker.wire.credentials import IssueCredential
from cgworker.wire.refs import AgentRef
from cgworker.worker.offers import publish_offers
from tests.adapters.mcp_clients.conftest import OPTIONS
from tests.adapters.mcp_clients.test_calls import BOTH_ERAS, client_of
from tests.adapters.mcp_clients.test_tasks import Tasks, about, begun, task_in
from tests.journeys.conftest import working
from tests.kernel.killing import MortalKernel

PROJECT = "p-killed"
KIND = "turn.ship.v1"


@pytest.fixture
async def mortal(tmp_path: Path) -> AsyncIterator[MortalKernel]:
    """A kernel of its own process, on a database of its own."""
    async with fresh_database(None) as dsn:
        mortal = MortalKernel(PROJECT, dsn, tmp_path)
        await mortal.start()
        yield mortal
        mortal.kill()


async def agent(mortal: MortalKernel, agent_id: str, *grants: str) -> KernelClient:
    """A new agent at this kernel."""
    ref = AgentRef(project_id=PROJECT, agent_id=agent_id)
    spec = AgentSpec(agent_id=agent_id, role="tester", capabilities=(KIND,), grants=grants)
    async with Database.open(mortal.dsn, pool_size=1) as database:
        operator = AgentRef(project_id=PROJECT, agent_id="operator")
        await register_agent(database, operator, spec, Provenance(kind="tests", external_ref="killed"))
        token = (await issue_credential(database, ref, IssueCredential(), issued_by=None)).token
    return KernelClient(mortal.base_url, agent=ref, token=token)


async def offering(kernel: KernelClient) -> Worker:
    """A worker that asks before it ships."""
    worker = Worker(kernel, options=OPTIONS)

    @worker.turn(KIND)
    async def ship(turn: Turn) -> dict[str, Any]:
        return {"shipped": await turn.ask(int, "How many?", key="count")}

    await publish_offers(worker)
    return worker


async def start_again(mortal: MortalKernel) -> None:
    await anyio.sleep(1)
    await mortal.start()


@BOTH_ERAS
@pytest.mark.slow
async def test_a_call_whose_kernel_is_killed_goes_on_when_it_is_back(mortal: MortalKernel, mode: str) -> None:
    """Killed while its user thinks: the answer arrives, and the call has its result; one turn, done once."""
    async with (
        await agent(mortal, "desk") as desk,
        await agent(mortal, "door", "turn.resume.any") as door,
        anyio.create_task_group() as group,
        working(await offering(desk)),
    ):

        async def user(_: Any, __: ElicitRequestParams) -> ElicitResult:
            mortal.kill()
            group.start_soon(start_again, mortal)
            return ElicitResult(action="accept", content={"answer": 3})

        async with client_of(door, mode, elicitation_callback=user) as client:
            with anyio.fail_after(60):
                called = await client.call_tool("desk", {})
        assert called.structured_content == {"shipped": 3}
        assert len((await door.projections.turns(PROJECT)).items) == 1


@pytest.mark.slow
async def test_a_task_outlives_the_kernel_and_the_server_that_took_it(mortal: MortalKernel) -> None:
    """Both are gone between two polls; another server tells how it stands, and takes the answer."""
    async with (
        await agent(mortal, "desk") as desk,
        await agent(mortal, "door", "turn.resume.any") as door,
        working(await offering(desk)),
    ):
        tasks = Tasks()
        async with client_of(door, extensions=[tasks]) as client:
            task_id = await begun(client, tasks, "desk")
            await task_in(client, task_id, "input_required")
        mortal.kill()
        async with client_of(door, extensions=[Tasks()]) as client, anyio.create_task_group() as group:
            group.start_soon(start_again, mortal)
            with anyio.fail_after(60):
                assert (await about(client, "get", task_id))["status"] == "input_required"
                filled = {"count": {"action": "accept", "content": {"answer": 3}}}
                await about(client, "update", task_id, inputResponses=filled)
                task = await task_in(client, task_id, "completed")
    assert task["result"]["structuredContent"] == {"shipped": 3}
