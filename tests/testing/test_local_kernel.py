"""The real kernel in the process, and what can be made to go wrong with it; on asyncio and on trio."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import asyncpg
import httpx
import pytest

from cgworker import KernelClient
from cgworker.errors import FencingError, KernelOverloaded, KernelUnreachable, UsageError
from cgworker.kernel.store.postgres.embedded import EmbeddedPostgres
from cgworker.testing import LocalKernel, faults, local_kernel
from cgworker.wire.claims import ClaimedTurn
from cgworker.wire.refs import AgentRef


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
async def kernel(anyio_backend: Any) -> AsyncIterator[LocalKernel]:  # noqa: ARG001  # it runs on that
    async with local_kernel() as kernel:
        yield kernel


async def databases_on(server: str) -> set[str]:
    """The names of the databases there."""
    connection = await asyncpg.connect(server)
    try:
        return {row["datname"] for row in await connection.fetch("select datname from pg_database")}
    finally:
        await connection.close()


def test_a_kernel_on_a_given_postgres_leaves_no_database_there(postgres: str) -> None:
    """Neither its own nor one that it was copied from: the server is somebody's, and stays."""
    before = asyncio.run(databases_on(postgres))

    async def use() -> set[str]:
        async with local_kernel(postgres=postgres):
            return await databases_on(postgres)

    assert len(asyncio.run(use()) - before) == 1
    assert asyncio.run(databases_on(postgres)) == before


async def claimed(worker: KernelClient) -> ClaimedTurn:
    """The worker's next turn, which must be there."""
    assert worker.agent is not None
    claim = (await worker.claims.claim(worker.agent)).claimed
    assert claim is not None
    return claim


async def test_a_turn_goes_from_dispatch_to_its_end(kernel: LocalKernel) -> None:
    """Over HTTP, against PostgreSQL, with agents made on the way."""
    worker = await kernel.agent("worker")
    turn = await kernel.dispatch("worker", {"question": 1})
    claim = await claimed(worker)
    await worker.turns.finish(claim, "succeeded", final_payload={"answer": 2})
    assert (await worker.turns.get(turn)).final_payload == {"answer": 2}


async def test_an_agent_is_what_it_was_asked_to_be(kernel: LocalKernel) -> None:
    """Capacity, kinds and grants; asked for again it is the same agent."""
    agent = await kernel.agent("a", capacity=3, kinds=["turn.x.v1"], grants=["turn.stop.any"])
    again = await kernel.agent("a")
    assert agent.agent == again.agent == AgentRef(project_id=kernel.project_id, agent_id="a")
    found = await again.agents.get(again.agent)
    assert (found.capacity, found.capabilities, found.grants) == (3, ("turn.x.v1",), ("turn.stop.any",))


async def test_a_dropped_request_is_not_carried_out(kernel: LocalKernel) -> None:
    """Once, then all is well."""
    worker = await kernel.agent("worker")
    await kernel.dispatch("worker", 1)
    kernel.faults.drop_request("claim")
    with pytest.raises(KernelUnreachable):
        await claimed(worker)
    assert (await claimed(worker)).agent_id == "worker"
    assert kernel.faults.seen["claim"] == 2


async def test_a_dropped_response_leaves_the_request_carried_out(kernel: LocalKernel) -> None:
    """The client cannot know; the kernel does."""
    worker = await kernel.agent("worker")
    turn = await kernel.dispatch("worker", 1)
    claim = await claimed(worker)
    kernel.faults.drop_response("finish")
    with pytest.raises(KernelUnreachable):
        await worker.turns.finish(claim, "succeeded")
    assert (await worker.turns.get(turn)).state == "closed"


async def test_a_delayed_request_is_carried_out_late(
    kernel: LocalKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are not held up by it."""
    worker = await kernel.agent("worker")
    turn = await kernel.dispatch("worker", 1)
    delays: list[float] = []
    may_go_on = threading.Event()
    sleep = asyncio.sleep

    async def delayed(seconds: float) -> None:
        delays.append(seconds)
        while not may_go_on.is_set():  # the kernel runs in a thread of its own
            await sleep(0.005)

    monkeypatch.setattr(faults, "asyncio", SimpleNamespace(sleep=delayed))
    kernel.faults.delay("claim", 0.4)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(claimed, worker)
        while not delays:  # noqa: ASYNC110
            await anyio.sleep(0.005)
        assert (await worker.turns.get(turn)).state == "queued"
        may_go_on.set()
    assert (await worker.turns.get(turn)).state == "running"
    assert delays == [0.4]


async def test_a_kernel_can_answer_that_it_is_overloaded(kernel: LocalKernel) -> None:
    """As often as asked, for one verb alone."""
    worker = await kernel.agent("worker")
    kernel.faults.answer("claim", 503, times=2)
    for _ in range(2):
        with pytest.raises(KernelOverloaded):
            await claimed(worker)
    assert worker.agent is not None
    assert (await worker.claims.claim(worker.agent)).claimed is None


async def test_faults_can_be_called_off(kernel: LocalKernel) -> None:
    """What was planned and has not happened yet does not happen."""
    worker = await kernel.agent("worker")
    kernel.faults.drop_request("claim", times=100)
    kernel.faults.clear()
    assert worker.agent is not None
    assert (await worker.claims.claim(worker.agent)).claimed is None


async def test_another_project_has_faults_of_its_own(kernel: LocalKernel) -> None:
    """What goes wrong in one project, and what is counted there, is nothing to the others."""
    other = kernel.new_project()
    worker, stranger = await kernel.agent("worker"), await other.agent("worker")
    other.faults.answer("claim", 503)
    assert worker.agent is not None
    assert (await worker.claims.claim(worker.agent)).claimed is None
    with pytest.raises(KernelOverloaded):
        await claimed(stranger)
    assert (kernel.faults.seen["claim"], other.faults.seen["claim"]) == (1, 1)
    await other.aclose()


async def test_a_stolen_lease_is_over_at_once(kernel: LocalKernel) -> None:
    """Its holder is fenced off, and another claim gets the turn."""
    worker = await kernel.agent("worker")
    turn = await kernel.dispatch("worker", 1)
    claim = await claimed(worker)
    await kernel.faults.steal_lease(turn)
    with pytest.raises(FencingError, match="claim expired"):
        await worker.claims.renew(claim)
    assert (await claimed(worker)).turn_id == turn.turn_id


async def test_a_lease_is_as_long_as_asked() -> None:
    """And the reaper looks as often as asked: a turn comes back by itself."""
    async with local_kernel(lease_seconds=0.2, reaper_seconds=0.05) as kernel:
        worker = await kernel.agent("worker")
        turn = await kernel.dispatch("worker", 1)
        await claimed(worker)
        with anyio.fail_after(10):
            found = await worker.turns.get(turn, state="running", wait_seconds=9)
    assert found.state == "queued"


async def test_kernels_beside_each_other_share_nothing_but_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """No further one starts a PostgreSQL."""
    started: list[EmbeddedPostgres] = []
    async with local_kernel() as first, local_kernel() as second:
        monkeypatch.setattr(EmbeddedPostgres, "start", started.append)
        await first.dispatch("requester", 1)
        async with local_kernel():
            other = await second.agent("requester")
            assert not (await other.projections.turns(second.project_id)).items
    assert started == []


def kernel_threads() -> set[threading.Thread]:
    """Those of this kernel, and of the session's."""
    return {thread for thread in threading.enumerate() if "local-kernel" in thread.name}


async def test_nothing_is_left_of_a_kernel(anyio_backend: Any) -> None:  # noqa: ARG001  # on both
    """Its thread has ended, its port is free, its clients are closed."""
    before = kernel_threads()
    async with local_kernel() as kernel:
        client = await kernel.agent("a")
        assert await client.readyz()
    assert kernel_threads() <= before
    async with httpx.AsyncClient() as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(f"{kernel.base_url}/healthz")


async def test_a_kernel_that_cannot_start_says_why() -> None:
    """The thread's error is the caller's."""
    with pytest.raises((UsageError, OSError)):
        async with local_kernel(postgres="postgresql://postgres@127.0.0.1:1/postgres?connect_timeout=1"):
            pass


PROGRAM = """
import anyio
from cgworker.testing import local_kernel
from cgworker.testing.databases import _embedded

async def main():
    async with local_kernel() as kernel:
        client = await kernel.agent("a")
        print((await client.readyz())["status"], flush=True)
    print(_embedded().partition("host=")[2].partition("&")[0])

anyio.run(main)
"""


def test_it_needs_no_pytest_and_leaves_no_process_or_file() -> None:
    """A plain program can use it; PostgreSQL and its folder are gone when the program ends."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    status, folder = ran.stdout.split()
    assert (status, ran.stderr) == ("ready", "")
    listed = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    assert folder not in listed
    assert not Path(folder).exists()


# ---------------------------------------------------------------- its clock


async def test_a_day_of_the_kernel_takes_no_day(kernel: LocalKernel) -> None:
    """Leases end by the moved clock, and the turn is given back at once."""
    worker, requester = await kernel.agent("worker"), await kernel.agent("requester")
    turn = await kernel.dispatch("worker", "work")
    lost = await claimed(worker)
    await kernel.advance(86_400)
    assert (await requester.turns.get(turn)).state == "queued"
    with pytest.raises(FencingError):
        await worker.turns.finish(lost, "succeeded")
    assert (await claimed(worker)).attempt == 2


async def test_the_clock_is_moved_from_where_it_stands(kernel: LocalKernel) -> None:
    """Twice an hour is two hours, in events and states alike."""
    worker = await kernel.agent("worker")
    first = await kernel.dispatch("worker", "work")
    await kernel.advance(3600)
    await kernel.advance(3600.5)
    second = await kernel.dispatch("worker", "work")
    early, late = await worker.turns.get(first), await worker.turns.get(second)
    assert 7200.4 < (late.created_at - early.created_at).total_seconds() < 7300
    events = (await worker.turns.feed(second)).items
    assert all((event.created_at - early.created_at).total_seconds() > 7200.4 for event in events)


async def test_advancing_wakes_who_waits_for_an_ended_lease(kernel: LocalKernel) -> None:
    """A long poll for work gets the turn that the reaper gives back."""
    worker = await kernel.agent("worker", capacity=2)
    await kernel.dispatch("worker", "work")
    await claimed(worker)
    assert worker.agent is not None
    found: list[Any] = []

    async def wait() -> None:
        assert worker.agent is not None
        found.append((await worker.claims.claim(worker.agent, wait_seconds=20)).claimed)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.sleep(0.2)
            await kernel.advance(31)
    assert found[0] is not None


async def test_the_clock_goes_forward_only(kernel: LocalKernel) -> None:
    with pytest.raises(ValueError, match="forward only"):
        await kernel.advance(-1)
