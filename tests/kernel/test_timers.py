"""Turns that sleep until an instant, and the kernel that wakes them (difference 30)."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from cgworker.kernel import timers
from cgworker.kernel.app import Kernel, open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.long_poll.notifier import timer_topic
from cgworker.kernel.store.due import NextDue, next_due
from cgworker.kernel.store.postgres.database import Database
from cgworker.lifecycle import TurnState
from cgworker.testing.kernel_clock import move_clock
from tests.kernel.killing import MortalKernel
from tests.kernel.parked import WAIT, until, waiting
from tests.kernel.project import Agent, Project, client_of, token_of

DAY = 86_400


async def sleeping(worker: Agent, seconds: float, **more: Any) -> str:
    """A turn of the worker that is suspended for so long; returns its id."""
    turn_id = await worker.dispatch(worker)
    claim = await worker.claim()
    suspended = await worker.suspend(claim, resume_after_seconds=seconds, **more)
    assert suspended.status_code == 200, suspended.text
    return turn_id


async def events_of(worker: Agent, turn_id: str) -> list[Any]:
    """The turn's suspensions and resumptions."""
    feed = await worker.get(f"turns/{turn_id}/feed", limit=500)
    return [event for event in feed["items"] if event["event_type"] in ("turn.suspended", "turn.resumed")]


async def until_queued(worker: Agent, turn_id: str) -> None:
    """Return once the turn is queued."""
    async with asyncio.timeout(60):
        while (await worker.get(f"turns/{turn_id}", WAIT, state="suspended"))["state"] != "queued":
            pass


def seconds_between(earlier: Any, later: Any) -> float:
    """How much later an event is."""
    begun, ended = (datetime.fromisoformat(event["created_at"]) for event in (earlier, later))
    return (ended - begun).total_seconds()


async def test_the_kernel_queues_a_sleeping_turn_when_its_time_has_come(project: Project) -> None:
    """No worker is alive; the ledger names the system."""
    worker = await project.agent("worker")
    turn_id = await sleeping(worker, 0.2)
    await until_queued(worker, turn_id)
    suspended, resumed = await events_of(worker, turn_id)
    assert (resumed["event_type"], resumed["actor_kind"], resumed["actor_id"]) == (
        "turn.resumed",
        "system",
        "system",
    )
    assert suspended["annotations"]["resume_after_seconds"] == 0.2
    assert seconds_between(suspended, resumed) >= 0.2
    assert (await worker.claim())["turn_id"] == turn_id


async def test_a_claim_that_waits_anywhere_gets_a_turn_that_is_due(
    project: Project, elsewhere: Project
) -> None:
    """It is woken at its own kernel, whichever kernel's timer was first."""
    worker = await project.agent("worker")
    turn_id = await sleeping(worker, 0.3)
    there = Agent(elsewhere, worker.ref, worker.credential)
    waiter = await waiting(there)
    assert (await waiter.claim())["turn_id"] == turn_id


async def test_an_instant_before_all_others_is_kept(project: Project, elsewhere: Project) -> None:
    """The timer was set for an hour from now, at both kernels."""
    worker = await project.agent("worker", capacity=9)
    later = await sleeping(worker, 3600)
    sooner = await sleeping(Agent(elsewhere, worker.ref, worker.credential), 0.2)
    await until_queued(worker, sooner)
    assert (await worker.get(f"turns/{later}"))["state"] == TurnState.SUSPENDED


async def test_the_turn_says_when_it_goes_on(project: Project) -> None:
    """`resume_at` stands in the snapshot and in lists, while the turn sleeps and at no other time."""
    worker = await project.agent("worker", capacity=9)
    turn_id = await sleeping(worker, 3600)
    other = await worker.dispatch(worker)
    await worker.suspend(await worker.claim())
    turn = await worker.get(f"turns/{turn_id}")
    listed = {entry["turn_id"]: entry for entry in (await worker.get("projection/turns"))["items"]}
    [suspended] = await events_of(worker, turn_id)
    assert 3600 <= seconds_between(suspended, {"created_at": turn["resume_at"]}) < 3605
    assert listed[turn_id]["resume_at"] == turn["resume_at"]
    assert "resume_at" not in listed[other]
    await worker.resume(turn_id)
    assert "resume_at" not in await worker.get(f"turns/{turn_id}")


async def test_a_turn_that_is_resumed_early_is_not_woken_again(
    kernel: Kernel, project: Project, database: Database
) -> None:
    """Its time is forgotten, also if it sleeps without one afterwards."""
    worker = await project.agent("worker")
    turn_id = await sleeping(worker, 60)
    assert (await worker.resume(turn_id)).status_code == 200
    await worker.suspend(await worker.claim())
    await move_clock(database, 61)
    await kernel.do_what_is_due()
    assert (await worker.get(f"turns/{turn_id}"))["state"] == TurnState.SUSPENDED


async def test_a_day_of_sleep_takes_no_day(kernel: Kernel, project: Project, database: Database) -> None:
    """By the moved clock: not a second too early, and at once then."""
    worker = await project.agent("worker")
    turn_id = await sleeping(worker, DAY)
    await move_clock(database, DAY - 60)
    await kernel.do_what_is_due()
    assert (await worker.get(f"turns/{turn_id}"))["state"] == TurnState.SUSPENDED
    await move_clock(database, 60)
    await kernel.do_what_is_due()
    assert (await worker.claim())["turn_id"] == turn_id


async def test_each_of_many_is_woken_once_by_several_kernels(
    kernel: Kernel, project: Project, elsewhere: Project, database: Database
) -> None:
    """All are due at one instant, and two kernels are at it, in batches."""
    workers = [await project.agent(f"w{n}", capacity=200) for n in range(3)]
    turns = [(worker, await sleeping(worker, 3600)) for worker in workers for _ in range(30)]
    await move_clock(database, 3600)
    both = (kernel, elsewhere.kernel)
    await asyncio.gather(*(each.timers.do_what_is_due(batch=7) for each in both for _ in range(2)))
    for worker, turn_id in turns:
        assert (await worker.get(f"turns/{turn_id}"))["state"] == TurnState.QUEUED
        assert Counter(event["event_type"] for event in await events_of(worker, turn_id)) == {
            "turn.suspended": 1,
            "turn.resumed": 1,
        }


async def test_a_stop_wakes_a_turn_that_sleeps(project: Project) -> None:
    """There is nothing to wait for any more; a stop that came before the suspension counts as well."""
    worker = await project.agent("worker", grants=("turn.stop.any",))
    turn_id = await sleeping(worker, DAY)
    await worker.stop(turn_id)
    claim = await worker.claim()
    assert claim["turn_id"] == turn_id
    await worker.suspend(claim, resume_after_seconds=DAY)
    await until_queued(worker, turn_id)


async def test_a_stop_ends_the_delay_of_a_dispatch(project: Project) -> None:
    """A claim that waits gets the turn at once, to settle it as stopped."""
    worker = await project.agent("worker", grants=("turn.stop.any",))
    turn_id = await worker.dispatch(worker, delay_seconds=DAY)
    waiter = await waiting(worker)
    await worker.stop(turn_id)
    assert (await waiter.claim())["turn_id"] == turn_id


async def test_a_turn_that_waits_for_no_time_stays_suspended(project: Project) -> None:
    """Whether a stop is requested before or after it was suspended."""
    worker = await project.agent("worker", grants=("turn.stop.any",), capacity=2)
    turns = [await worker.dispatch(worker) for _ in range(2)]
    first, second = await worker.claim(), await worker.claim()
    await worker.stop(first["turn_id"])
    for claim in (first, second):
        await worker.suspend(claim)
    await worker.stop(second["turn_id"])
    await project.kernel.do_what_is_due()
    for turn_id in turns:
        assert (await worker.get(f"turns/{turn_id}"))["state"] == TurnState.SUSPENDED


async def test_a_repeat_of_the_same_sleep_changes_nothing(project: Project) -> None:
    """The answer may have been lost; another length is another request."""
    worker = await project.agent("worker")
    await worker.dispatch(worker)
    claim = await worker.claim()
    first = await worker.suspend(claim, resume_after_seconds=3600)
    assert (await worker.suspend(claim, resume_after_seconds=3600)).json() == first.json() == {"ok": True}
    assert (await worker.suspend(claim, resume_after_seconds=3601)).status_code == 409
    assert (await worker.suspend(claim)).status_code == 409


@pytest.mark.parametrize("delay", [-1, 1e10, "5", True, None, [1]], ids=str)
async def test_a_delay_that_is_none_is_refused(project: Project, delay: Any) -> None:
    """The fault names the field, and the claim goes on."""
    worker = await project.agent("worker")
    await worker.dispatch(worker)
    claim = await worker.claim()
    refused = await worker.suspend(claim, resume_after_seconds=delay)
    assert refused.status_code == 422
    assert [fault["loc"] for fault in refused.json()["detail"]] == [["body", "resume_after_seconds"]]
    assert (await worker.renew(claim)).status_code == 200


async def test_many_turns_can_be_put_to_sleep_in_one_request(project: Project) -> None:
    """`settle-many` takes the delay as the single route does."""
    worker = await project.agent("worker", capacity=9)
    turns = [await worker.dispatch(worker) for _ in range(3)]
    items = [
        {
            "claim": token_of(await worker.claim()),
            "credential": worker.credential,
            "suspend": {"reason": "nap", "resume_after_seconds": 0.1},
        }
        for _ in turns
    ]
    answers = (await worker.post("turns:settle-many", {"items": items}))["items"]
    assert [answer["status"] for answer in answers] == [200, 200, 200]
    for turn_id in turns:
        await until_queued(worker, turn_id)


async def test_what_became_due_while_no_kernel_lived_is_done_at_the_start(
    project: Project, dsn: str, database: Database
) -> None:
    """A kernel that starts looks at what is due first of all."""
    config = KernelConfig(claim_reaper_interval_seconds=0)
    worker = await project.agent("worker")
    turn_id = await sleeping(worker, DAY)
    await move_clock(database, DAY)  # nobody tells the kernel that runs
    async with Database.open(dsn) as another, open_kernel(config, another) as kernel, client_of(kernel):
        await until_queued(worker, turn_id)


async def test_an_instant_that_a_look_finds_before_it_is_expected_is_told_to_other_kernels(
    kernel: Kernel, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were not told by the look, and the kernel that knows it may be killed."""
    told: list[str] = []

    async def looking(database: Database) -> NextDue:
        found = await next_due(database)
        kernel.timers.expect(found.seconds + 0.05)  # the commit's answer comes later than what a look finds
        return found

    worker = await project.agent("worker")
    await sleeping(worker, 30)
    monkeypatch.setattr(timers, "next_due", looking)
    monkeypatch.setattr(kernel.notifier, "wake_elsewhere", lambda *topics: told.extend(topics))
    kernel.notifier.wake_all()
    await until(lambda: timer_topic() in told)


async def test_the_timer_of_a_living_kernel_keeps_the_instants_of_a_killed_one(
    dsn: str, tmp_path: Path, kernel: Kernel, project: Project
) -> None:
    """The turn was suspended at a kernel that was killed soon; it is woken once, and in time."""
    worker = await project.agent("worker")
    mortal = MortalKernel(project.id, dsn, tmp_path)
    await mortal.start()
    async with httpx.AsyncClient(base_url=mortal.base_url, timeout=30) as client:
        there = Agent(Project(kernel, client, project.id), worker.ref, worker.credential)
        turn_id = await sleeping(there, 2.0)
        loop = asyncio.get_running_loop()
        await until(lambda: kernel.timers._next_at < loop.time() + 2.0)  # noqa: SLF001  # it has heard of it
        mortal.kill()
    await until_queued(worker, turn_id)
    suspended, resumed = await events_of(worker, turn_id)
    assert 2.0 <= seconds_between(suspended, resumed) < 8  # a re-check alone takes ten
