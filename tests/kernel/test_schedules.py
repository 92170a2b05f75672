"""Schedules: put, kept and dispatched by the kernel (difference 31)."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from cgworker.kernel.app import Kernel, open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.store.postgres.database import Database
from cgworker.testing.kernel_clock import move_clock
from tests.kernel.parked import WAIT, waiting
from tests.kernel.project import Agent, Project, client_of

PATH = "management/schedules"
DAY = 86_400


class Clock:
    """The kernel's clock, moved by the test alone: to the very second, since schedules know no less."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def now(self) -> datetime:
        """What it shows."""
        now: datetime = await self._kernel.database.fetchval("select cg_clock()")
        return now

    async def advance(self, seconds: float) -> None:
        """Move it, and do what is due then."""
        await move_clock(self._kernel.database, seconds)
        await self._kernel.do_what_is_due()


@pytest.fixture
def clock(kernel: Kernel) -> Clock:
    """The clock of the kernel under test."""
    return Clock(kernel)


@pytest.fixture
async def maker(project: Project) -> Agent:
    """An agent that has a schedule."""
    return await project.agent("maker", capacity=500)


@pytest.fixture
async def other(project: Project) -> Agent:
    """Another agent of the project."""
    return await project.agent("other")


async def put(maker: Agent, schedule_id: str = "nightly", cron: str = "@every 1h", **more: Any) -> Any:
    """A schedule of the maker's for itself."""
    response = await ask_put(maker, schedule_id, cron=cron, **more)
    assert response.status_code == 200, response.text
    return response.json()


async def ask_put(maker: Agent, schedule_id: str, **fields: Any) -> Any:
    """Ask for a schedule; returns the answer."""
    body = {"requested_by": maker.json, "target_agent": maker.json, "input": {"do": "it"}, **fields}
    return await maker.ask("PUT", f"{PATH}/{schedule_id}", body)


async def act(agent: Agent, schedule_id: str, verb: str, **more: Any) -> Any:
    """Pause, unpause or trigger; returns the response."""
    return await agent.ask("POST", f"{PATH}/{schedule_id}:{verb}", {"requested_by": agent.json, **more})


async def turns_of(agent: Agent) -> list[Any]:
    """The turns of the project, oldest first."""
    return list(reversed((await agent.get("projection/turns", limit=500))["items"]))


async def events_of(agent: Agent) -> list[Any]:
    """What the schedules did, oldest first."""
    feed = await agent.get(f"agents/{agent.ref.agent_id}/feed", limit=1000)
    return [event for event in feed["items"] if event["subject_kind"] == "schedule"]


def names_of(events: list[Any]) -> list[str]:
    """The events, each with its reason."""
    return [f"{each['event_type']} {each['annotations'].get('why', '')}".strip() for each in events]


async def test_a_schedule_dispatches_when_it_is_due(maker: Agent, clock: Clock) -> None:
    """In its maker's name, with its input, under the key of its instant; and the ledger tells."""
    made = await put(maker)
    await clock.advance(3500)
    assert await turns_of(maker) == []
    await clock.advance(100)
    [turn] = await turns_of(maker)
    claim = await maker.claim({"Prefer": "return=representation"})
    assert claim["context"]["semantic_items"][0]["content"]["cards"][0]["content"]["data"] == {"do": "it"}
    key = f"schedule:nightly:{made['next_at'].replace('+00:00', 'Z')}"
    assert claim["context"]["turn"]["spawn_key"] == key
    [event] = await events_of(maker)
    assert (event["event_type"], event["subject_id"], event["actor_kind"]) == (
        "schedule.ticked",
        "nightly",
        "system",
    )
    assert event["annotations"]["turn_id"] == turn["turn_id"]
    found = await maker.get(f"{PATH}/nightly")
    assert found["last_turn"]["turn_id"] == turn["turn_id"]
    assert found["last_at"] == made["next_at"]
    assert datetime.fromisoformat(found["next_at"]) - datetime.fromisoformat(made["next_at"]) == timedelta(
        hours=1
    )


async def test_a_claim_that_waits_gets_the_turn_of_a_schedule(maker: Agent) -> None:
    """The timer itself dispatches it, without a clock that is moved."""
    await put(maker, cron="@every 2s")
    waiter = await waiting(maker)
    assert (await waiter.claim())["turn_id"] == "T-1"
    await maker.ask("DELETE", f"{PATH}/nightly")


async def test_each_instant_is_dispatched_once_by_several_kernels(
    maker: Agent, elsewhere: Project, kernel: Kernel, database: Database
) -> None:
    """Two kernels at many schedules that are due at once, in batches."""
    for number in range(30):
        await put(maker, f"s{number}", catch_up="all")
    for _ in range(3):
        await move_clock(database, 3600)
        both = (kernel, elsewhere.kernel)
        await asyncio.gather(*(each.timers.do_what_is_due(batch=4) for each in both for _ in range(2)))
    async with asyncio.timeout(60):  # until the timers themselves have ended what they were at
        while len(await turns_of(maker)) < 90:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
    events = Counter(event["subject_id"] for event in await events_of(maker))
    assert events == {f"s{number}": 3 for number in range(30)}


async def test_the_instants_of_an_outage_are_made_up_for_as_told(maker: Agent, clock: Clock) -> None:
    """A day without a kernel: the last one, none, or all of them up to a hundred; the rest are skipped."""
    for catch_up in ("last", "none", "all"):
        await put(maker, catch_up, "@every 30m", catch_up=catch_up)
    await put(maker, "many", "@every 10m", catch_up="all")
    await clock.advance(DAY)
    names: dict[str, list[str]] = {}
    for event in await events_of(maker):
        names.setdefault(event["subject_id"], []).extend(names_of([event]))
    assert Counter(names["all"]) == {"schedule.ticked": 48}
    assert Counter(names["last"]) == {"schedule.skipped catch_up": 47, "schedule.ticked": 1}
    assert names["last"][-1] == "schedule.ticked"
    assert set(names["none"][:-1]) == {"schedule.skipped catch_up"}
    assert Counter(names["many"]) == {"schedule.skipped catch_up": 1, "schedule.ticked": 100}
    await clock.advance(1800)
    assert names_of(await events_of(maker))[-4:].count("schedule.ticked") >= 3


async def test_an_instant_is_skipped_while_the_last_turn_is_open(maker: Agent, clock: Clock) -> None:
    """And only then; `queue` dispatches whatever is open."""
    await put(maker, overlap="skip")
    await clock.advance(3600)
    await clock.advance(3600)
    await maker.finish(await maker.claim())
    await clock.advance(3600)
    assert names_of(await events_of(maker)) == [
        "schedule.ticked",
        "schedule.skipped overlap",
        "schedule.ticked",
    ]


async def test_the_turns_of_a_schedule_come_in_the_order_that_it_says(maker: Agent, clock: Clock) -> None:
    """With its priority, its keys and its delay."""
    order: dict[str, Any] = {"priority": 7, "serial_key": "a", "fairness_key": "b", "delay_seconds": 60}
    made = await put(maker, **order)
    assert {name: made[name] for name in order} == order
    await clock.advance(3600)
    assert await maker.claim() is None
    turn = await maker.get("turns/T-1")
    assert {name: turn[name] for name in ("priority", "serial_key", "fairness_key")} == {
        "priority": 7,
        "serial_key": "a",
        "fairness_key": "b",
    }
    await clock.advance(60)
    assert (await maker.claim())["turn_id"] == "T-1"


async def test_jitter_delays_each_instant_a_little(maker: Agent, clock: Clock) -> None:
    """No turn before its instant, all of them within the jitter, and not all at once."""
    for number in range(20):
        await put(maker, f"s{number}", jitter_seconds=600)
    await clock.advance(3600)
    early = len(await turns_of(maker))
    await clock.advance(300)
    halfway = len(await turns_of(maker))
    await clock.advance(300)
    assert early < halfway < 20
    assert len(await turns_of(maker)) == 20


async def test_a_paused_schedule_does_nothing_and_makes_up_for_nothing(maker: Agent, clock: Clock) -> None:
    """It goes on from the moment at which it is unpaused."""
    await put(maker, catch_up="all")
    paused = (await act(maker, "nightly", "pause")).json()
    assert (paused["paused"], paused["next_at"]) == (True, None)
    await clock.advance(DAY)
    assert await turns_of(maker) == []
    unpaused = (await act(maker, "nightly", "unpause")).json()
    assert datetime.fromisoformat(unpaused["next_at"]) > await clock.now()
    await clock.advance(3600)
    assert len(await turns_of(maker)) == 1


async def test_a_schedule_can_be_triggered_by_hand(maker: Agent) -> None:
    """Also while it is paused; a repeat with the same key gives the same turn."""
    await put(maker)
    await act(maker, "nightly", "pause")
    first = (await act(maker, "nightly", "trigger", key="now")).json()
    again = (await act(maker, "nightly", "trigger", key="now")).json()
    other = (await act(maker, "nightly", "trigger")).json()
    assert first == again != other
    assert [event["actor_id"] for event in await events_of(maker)] == ["maker", "maker"]


async def test_a_repeated_put_changes_nothing_but_what_it_says(maker: Agent, clock: Clock) -> None:
    """The next instant stays, unless the calendar is another."""
    made = await put(maker)
    await clock.advance(60)
    again = await put(maker, overlap="skip")
    assert (again["next_at"], again["overlap"], again["created_at"]) == (
        made["next_at"],
        "skip",
        made["created_at"],
    )
    assert (await put(maker, cron="@every 2h"))["next_at"] > made["next_at"]


async def test_schedules_are_listed_and_deleted(maker: Agent, other: Agent, clock: Clock) -> None:
    """By page, and to every agent of the project; a deleted one is gone, its turns are not."""
    for number in range(5):
        await put(maker, f"s{number}")
    page = await other.get(PATH, limit=3)
    rest = await other.get(PATH, limit=3, after=page["next_after"])
    assert [each["schedule_id"] for each in page["items"] + rest["items"]] == ["s0", "s1", "s2", "s3", "s4"]
    assert rest["next_after"] is None
    await clock.advance(3600)
    assert (await maker.ask("DELETE", f"{PATH}/s0")).status_code == 200
    assert (await maker.ask("GET", f"{PATH}/s0")).status_code == 404
    await clock.advance(3600)
    assert len(await turns_of(maker)) == 9


async def test_a_schedule_is_its_makers(maker: Agent, other: Agent, project: Project) -> None:
    """Others change it with the grant to dispatch for anybody alone."""
    await put(maker)
    assert (await ask_put(other, "nightly", cron="@every 2h")).status_code == 409
    assert (await act(other, "nightly", "pause")).status_code == 409
    assert (await other.ask("DELETE", f"{PATH}/nightly")).status_code == 409
    foreign = {"requested_by": maker.json}
    assert (await other.ask("POST", f"{PATH}/nightly:pause", foreign)).status_code == 403
    chief = await project.agent("chief", grants=("turn.dispatch.any",))
    assert (await act(chief, "nightly", "pause")).status_code == 200
    assert (await act(chief, "absent", "pause")).status_code == 404


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({"cron": "* * * *"}, ["body", "cron"]),
        ({"cron": "@every 15m", "timezone": "Mars/Base"}, ["body", "timezone"]),
        ({"cron": "0 2 * * *", "timezone": "localtime"}, ["body", "timezone"]),
        ({"cron": "0 2 * * *", "timezone": "right/UTC"}, ["body", "timezone"]),
        ({"cron": "@every 15m", "overlap": "whatever"}, ["body", "overlap"]),
        ({"cron": "@every 15m", "catch_up": 3}, ["body", "catch_up"]),
        ({"cron": "@every 15m", "jitter_seconds": -1}, ["body", "jitter_seconds"]),
        ({"cron": "@every 15m", "more": 1}, ["body", "more"]),
        ({}, ["body", "cron"]),
    ],
    ids=str,
)
async def test_what_is_no_schedule_is_refused(maker: Agent, fields: Any, loc: Any) -> None:
    """The fault names the field."""
    refused = await ask_put(maker, "nightly", **fields)
    assert refused.status_code == 422
    assert [fault["loc"] for fault in refused.json()["detail"]] == [loc]


async def test_a_zone_that_this_machine_lacks_keeps_no_other_schedule_waiting(
    maker: Agent, clock: Clock, kernel: Kernel
) -> None:
    """Another kernel may know it, or this one after an upgrade; it is looked at again after a minute."""
    rename = "update cg_schedules set timezone = $2 where project_id = $1 and schedule_id = 'far'"
    await put(maker, "far", timezone="UTC")
    await kernel.database.execute(rename, maker.ref.project_id, "Mars/Base")
    await put(maker, "near")
    await clock.advance(3600)
    assert names_of(await events_of(maker)) == ["schedule.ticked"]
    assert (await act(maker, "far", "pause")).status_code == 200
    assert (await act(maker, "far", "unpause")).status_code == 422
    await kernel.database.execute(rename, maker.ref.project_id, "UTC")
    assert (await act(maker, "far", "unpause")).status_code == 200


@pytest.mark.parametrize("schedule_id", ["a:b", "a b", "-a", "a" * 81])
async def test_an_id_that_no_dispatch_key_could_hold_is_refused(maker: Agent, schedule_id: str) -> None:
    """Its turns could never be dispatched."""
    assert (await ask_put(maker, schedule_id, cron="@every 15m")).status_code == 422


async def test_a_target_that_cannot_do_it_is_refused_at_once_and_later(
    maker: Agent, other: Agent, clock: Clock, kernel: Kernel
) -> None:
    """When the schedule is put; and if the target changes afterwards, each instant says so."""
    response = await ask_put(maker, "nightly", cron="@every 1h", turn_kind="turn.unknown.v1")
    assert response.status_code == 409
    ghost = {"project_id": other.ref.project_id, "agent_id": "ghost"}
    assert (await ask_put(maker, "nightly", cron="@every 1h", target_agent=ghost)).status_code == 404
    await put(maker, target_agent=other.json)
    await kernel.database.execute(
        "update cg_agents set capabilities = '{}' where project_id = $1 and agent_id = 'other'",
        other.ref.project_id,
    )
    await clock.advance(3600)
    assert names_of(await events_of(maker)) == ["schedule.skipped refused"]
    assert (await act(maker, "nightly", "trigger")).status_code == 409


async def test_an_instant_that_was_dispatched_before_is_not_dispatched_again(
    maker: Agent, clock: Clock, kernel: Kernel
) -> None:
    """The dispatch key finds the turn, even if the schedule has forgotten it."""
    made = await put(maker)
    await clock.advance(3600)
    await kernel.database.execute(
        "update cg_schedules set next_at = $2, due_at = $2 where project_id = $1",
        maker.ref.project_id,
        datetime.fromisoformat(made["next_at"]),
    )
    await kernel.do_what_is_due()
    assert len(await turns_of(maker)) == 1


async def test_what_was_due_while_no_kernel_lived_is_done_at_the_start(
    maker: Agent, dsn: str, database: Database
) -> None:
    """A kernel that starts looks at its schedules first."""
    await put(maker)
    await move_clock(database, DAY)  # nobody tells the kernel that runs
    config = KernelConfig(claim_reaper_interval_seconds=0)
    async with Database.open(dsn) as another, open_kernel(config, another) as kernel, client_of(kernel) as c:
        there = Agent(Project(kernel, c, maker.ref.project_id), maker.ref, maker.credential)
        assert (await there.claim(WAIT))["turn_id"] == "T-1"
