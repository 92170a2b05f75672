"""What a kernel does by itself."""

from __future__ import annotations

import asyncio

import pytest
from attrs import evolve

from cgworker.errors import KernelOverloaded
from cgworker.kernel.app import Kernel, open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.maintenance import Maintenance
from cgworker.kernel.store.postgres.database import Database
from cgworker.lifecycle import TurnState
from tests.kernel.project import Project, client_of, end_lease


def a_reaper(kernel: Kernel, database: Database) -> Maintenance:
    return Maintenance(kernel.config, database, kernel.notifier, kernel.metrics)


async def test_ended_leases_are_given_back_by_the_system(kernel: Kernel, project: Project) -> None:
    """The turn is queued again, its slot free, and the ledger says who did it."""
    worker = await project.agent("worker")
    turn_id = await worker.dispatch(worker)
    await worker.claim()
    await end_lease(project, turn_id)
    await a_reaper(kernel, kernel.database).reap()
    assert (await worker.get(f"turns/{turn_id}"))["state"] == TurnState.QUEUED
    assert await project.held_count(worker) == 0
    event = (await worker.get(f"turns/{turn_id}/feed"))["items"][-1]
    assert (event["event_type"], event["actor_kind"], event["actor_id"], event["note"]) == (
        "turn.claim_reconciled",
        "system",
        "system",
        "service-owned claim reaper",
    )


async def test_live_leases_are_left_alone(kernel: Kernel, project: Project) -> None:
    """Only what has ended is given back."""
    worker = await project.agent("worker")
    turn_id = await worker.dispatch(worker)
    await worker.claim()
    await a_reaper(kernel, kernel.database).reap()
    assert (await worker.get(f"turns/{turn_id}"))["state"] == TurnState.RUNNING


async def test_many_reapers_share_the_work(kernel: Kernel, project: Project) -> None:
    """Every kernel has one: each turn is given back once, and nobody waits for another."""
    workers = [await project.agent(f"w{n}", capacity=20) for n in range(3)]
    for worker in workers * 10:
        await worker.dispatch(worker)
    claims = [await worker.claim() for worker in workers * 10]
    for claim in claims:
        await end_lease(project, claim["turn_id"])
    reapers = [a_reaper(kernel, kernel.database) for _ in range(4)]
    await asyncio.gather(*(reaper.reap() for reaper in reapers))
    assert [await project.held_count(worker) for worker in workers] == [0, 0, 0]
    feed = await workers[0].get("projection/feed", limit=500)
    assert sum(event["event_type"] == "turn.claim_reconciled" for event in feed["items"]) == 30


async def test_the_reaper_runs_by_default(database: Database) -> None:
    """With a short lease an abandoned turn comes back without anybody's call, and wakes who waits for it."""
    config = KernelConfig(claim_timeout_seconds=0.5)
    async with open_kernel(config, database) as kernel, client_of(kernel) as client:
        worker = await Project(kernel, client).agent("worker")
        turn_id = await worker.dispatch(worker)
        await worker.claim()
        again = await worker.claim({"Prefer": "wait=20, return=representation"})
        assert (again["turn_id"], again["attempt"]) == (turn_id, 2)


async def test_old_keys_are_forgotten(kernel: Kernel, project: Project) -> None:
    """Idempotency keys are kept for an hour, or as long as a lease if that is longer."""
    worker = await project.agent("worker")
    await worker.dispatch(worker)
    claim = await worker.claim()
    for key in ("old", "young"):
        await worker.append(claim, key, {"Idempotency-Key": key})
    age = "update cg_idempotency_keys set created_at = now() - interval '61 minutes' where key = 'old'"
    await kernel.database.execute(age)
    await a_reaper(kernel, kernel.database).tidy()
    keys = "select key from cg_idempotency_keys where project_id = $1"
    assert [row["key"] for row in await kernel.database.fetch(keys, project.id)] == ["young"]


async def test_a_database_that_is_away_does_not_end_the_reaper(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so and tries again."""
    reaper = Maintenance(
        evolve(kernel.config, claim_reaper_interval_seconds=0.01),
        kernel.database,
        kernel.notifier,
        kernel.metrics,
    )
    tries = asyncio.Semaphore(0)

    async def fail() -> None:
        tries.release()
        raise KernelOverloaded("away")

    monkeypatch.setattr(reaper, "reap", fail)
    running = asyncio.create_task(reaper.run())
    for _ in range(3):
        await asyncio.wait_for(tries.acquire(), 5)
    assert not running.done()
    running.cancel()
