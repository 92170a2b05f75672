"""A kernel alone on its database sends no NOTIFY; no change is missed when another begins or ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from attrs import evolve

from cgworker.kernel.app import Kernel, open_kernel
from cgworker.kernel.long_poll import notifier, other_kernels
from cgworker.kernel.long_poll.other_kernels import OtherKernels
from cgworker.kernel.store.postgres.database import Database
from cgworker.wire.refs import TurnRef
from tests.kernel.parked import WAIT, until, waiting
from tests.kernel.project import Agent, Project, client_of


@pytest.fixture
async def worker(project: Project) -> Agent:
    return await project.agent("worker", capacity=9)


@pytest.fixture
async def listener(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection that is no kernel's."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(notifier, "_RECONNECT_SECONDS", 0.1)


@asynccontextmanager
async def another_kernel(project: Project, dsn: str) -> AsyncIterator[Project]:
    async with (
        Database.open(dsn, pool_size=4) as database,
        open_kernel(project.kernel.config, database) as kernel,
        client_of(kernel) as client,
    ):
        yield Project(kernel, client, project.id)


async def all_speak_to(begun: OtherKernels) -> None:
    """Wait until a silent kernel has given up the lock for one that has begun."""
    async with asyncio.timeout(60):
        while not await begun.look():  # noqa: ASYNC110  # it can only be asked
            await asyncio.sleep(0.01)


async def change_unseen(agent: Agent, turn_id: str) -> None:
    """Queue a suspended turn again, as a kernel does that tells nobody."""
    await agent.project.kernel.database.execute(
        "update cg_turns set state = 'queued' where project_id = $1 and turn_number = $2",
        agent.ref.project_id,
        int(turn_id.removeprefix("T-")),
    )


async def test_a_kernel_alone_sends_nothing(
    kernel: Kernel, worker: Agent, listener: asyncpg.Connection[asyncpg.Record]
) -> None:
    """It wakes its own requests; the next NOTIFY that anybody hears is not the kernel's."""
    heard: list[object] = []
    await until(lambda: kernel.notifier.is_silent)  # its greeting is sent by then
    await listener.add_listener("cg_wakeups", lambda *given: heard.append(given[-1]))
    waiter = await waiting(worker)
    await worker.dispatch(worker)
    assert (await worker.finish(await waiter.claim())).status_code == 200
    await asyncio.sleep(3 * notifier._NOTIFY_PAUSE_SECONDS)  # noqa: SLF001
    await listener.execute("notify cg_wakeups, 'marker'")
    await until(lambda: bool(heard))
    assert heard == ["marker"]


async def test_a_turns_topic_is_made_only_while_somebody_waits(
    kernel: Kernel, worker: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's own timer always listens, and needs none."""
    await until(lambda: kernel.notifier.is_silent)
    made: list[TurnRef] = []
    topic_of = notifier.turn_topic

    def noted(turn: TurnRef) -> str:
        made.append(turn)
        return topic_of(turn)

    monkeypatch.setattr(notifier, "turn_topic", noted)
    await worker.dispatch(worker)
    claim = await worker.claim()
    await worker.append(claim, {"n": 1})
    await worker.finish(claim)
    assert made == []
    turn_id = await worker.dispatch(worker)
    watching = asyncio.create_task(worker.get(f"turns/{turn_id}", WAIT, state="queued"))
    await until(lambda: kernel.notifier.is_heard)
    await worker.claim()
    assert (await watching)["state"] == "running"
    assert made != []


async def test_no_change_is_missed_while_kernels_begin_and_end(
    kernel: Kernel, dsn: str, worker: Agent
) -> None:
    """Whoever waits at a kernel that has just begun hears of what the silent one does."""
    for _ in range(4):
        await until(lambda: kernel.notifier.is_silent)
        async with another_kernel(worker.project, dsn) as there:
            waiter = await waiting(evolve(worker, project=there))
            turn_id = await worker.dispatch(worker)
            assert (claim := await waiter.claim())["turn_id"] == turn_id
            assert (await worker.finish(claim)).status_code == 200


async def test_a_kernel_is_silent_again_when_the_other_was_killed(
    kernel: Kernel, listener: asyncpg.Connection[asyncpg.Record]
) -> None:
    """A killed kernel's locks end with its connection."""
    await until(lambda: kernel.notifier.is_silent)
    killed = OtherKernels(listener)
    await listener.execute("notify cg_wakeups, '*'")
    await until(lambda: not kernel.notifier.is_silent)
    await all_speak_to(killed)
    await asyncio.sleep(0.3)
    assert not kernel.notifier.is_silent
    listener.terminate()
    await until(lambda: kernel.notifier.is_silent)


async def test_a_paused_silent_kernel_holds_nobody_up(
    project: Project, worker: Agent, dsn: str, listener: asyncpg.Connection[asyncpg.Record]
) -> None:
    """A new kernel serves and wakes its own; what the paused one did last is read when it answers."""
    await worker.dispatch(worker)
    await worker.suspend(claim := await worker.claim())
    paused = OtherKernels(listener)
    await listener.execute("notify cg_wakeups, '*'")
    await all_speak_to(paused)
    await listener.execute("set application_name = 'cgworker notifier'")
    await until(lambda: not project.kernel.notifier.is_silent)
    async with another_kernel(project, dsn) as there:
        here = evolve(worker, project=there)
        waiter = await waiting(here)
        turn_id = await here.dispatch(here)
        assert (await waiter.claim())["turn_id"] == turn_id
        waiter = await waiting(here)
        await change_unseen(worker, claim["turn_id"])
        await listener.execute("notify cg_wakeups, '*'")  # as a kernel does that is back
        assert (await waiter.claim())["turn_id"] == claim["turn_id"]


async def test_a_kernel_speaks_to_one_of_an_earlier_version(
    kernel: Kernel, listener: asyncpg.Connection[asyncpg.Record]
) -> None:
    """That one holds no lock and greets nobody, so it is found by its name."""
    await until(lambda: kernel.notifier.is_silent)
    await listener.execute("set application_name = 'cgworker wakeups'")
    await until(lambda: not kernel.notifier.is_silent)
    await listener.execute("reset application_name")
    await until(lambda: kernel.notifier.is_silent)


async def test_requests_read_again_once_the_silent_kernel_speaks(
    kernel: Kernel,
    project: Project,
    worker: Agent,
    dsn: str,
    listener: asyncpg.Connection[asyncpg.Record],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it did in silence while the new kernel began is found."""
    await worker.dispatch(worker)
    await worker.suspend(claim := await worker.claim())
    await until(lambda: kernel.notifier.is_silent)
    held = "select pg_advisory_xact_lock(1), pg_advisory_unlock($1)"
    monkeypatch.setattr(other_kernels, "_GIVE_UP_ALONE", held)
    await listener.execute("select pg_advisory_lock(1)")
    async with another_kernel(project, dsn) as there:
        waiter = await waiting(evolve(worker, project=there))
        await change_unseen(worker, claim["turn_id"])
        await listener.execute("select pg_advisory_unlock(1)")
        assert (await waiter.claim())["turn_id"] == claim["turn_id"]
