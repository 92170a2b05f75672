"""When and in which order an agent's turns are claimed (differences 28 and 29)."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cgworker.kernel.store.claims.dispatch import dispatch_turns
from cgworker.kernel.store.claims.replay import Dispatched, DispatchRequest
from cgworker.testing.kernel_clock import move_clock
from cgworker.wire.converter import structure_request
from cgworker.wire.turns import Dispatch
from tests.kernel.parked import WAIT, waiting
from tests.kernel.project import Agent, Project, end_lease


async def drained(worker: Agent, *, most: int = 1000) -> list[str]:
    """The ids of the turns that the worker claims and finishes, one after the other, until there is none."""
    order: list[str] = []
    while len(order) < most and (claim := await worker.claim()):
        order.append(claim["turn_id"])
        assert (await worker.finish(claim)).status_code == 200
    return order


async def pair(project: Project, *, capacity: int = 1) -> tuple[Agent, Agent]:
    """Who dispatches, and who works."""
    return await project.agent("requester"), await project.agent("worker", capacity=capacity)


# ---------------------------------------------------------------- what a dispatch takes


ORDERS: tuple[dict[str, Any], ...] = (
    {"priority": 5},
    {"serial_key": "conversation-17"},
    {"fairness_key": "tenant-a"},
    {"delay_seconds": 3600},
    {"not_before": "2126-01-01T00:00:00+00:00"},
)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: next(iter(order)))
async def test_a_snapshot_shows_the_fields_that_are_set(project: Project, order: dict[str, Any]) -> None:
    """And no others; a delay shows as the instant at which it ends."""
    requester, worker = await pair(project)
    plain = await requester.get(f"turns/{await requester.dispatch(worker)}")
    turn = await requester.get(f"turns/{await requester.dispatch(worker, **order)}")
    name = {"delay_seconds": "not_before"}.get(next(iter(order)), next(iter(order)))
    assert turn.keys() - plain.keys() == {name}
    if name in order:
        assert turn[name] == order[name]
    else:
        created, begins = (datetime.fromisoformat(turn[at]) for at in ("created_at", "not_before"))
        assert abs(begins - created - timedelta(hours=1)) < timedelta(seconds=1)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: next(iter(order)))
async def test_a_repeat_with_another_order_is_a_conflict(project: Project, order: dict[str, Any]) -> None:
    """A repeat with the same fields gives the same turn."""
    requester, worker = await pair(project)
    turn_id = await requester.dispatch(worker, "k", **order)
    assert await requester.dispatch(worker, "k", **order) == turn_id
    name = next(iter(order))
    others: dict[str, Any] = {"priority": 6, "delay_seconds": 60, "not_before": "2126-01-01T00:00:01+00:00"}
    changed: tuple[dict[str, Any], ...] = ({}, {name: others.get(name, "another")})
    for other in changed:
        refused = await requester.ask("POST", "turns:dispatch", requester.dispatching(worker, "k", **other))
        assert refused.status_code == 409
        assert refused.json() == {
            "error": "ConflictError",
            "message": f"spawn key conflict for k: {name} differs",
        }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("priority", 101),
        ("priority", -101),
        ("priority", "5"),
        ("serial_key", ""),
        ("serial_key", "k" * 201),
        ("fairness_key", ""),
        ("fairness_key", "k" * 201),
        ("fairness_key", "nul\0"),
        ("delay_seconds", -1),
        ("delay_seconds", 1e11),
        ("not_before", "tomorrow"),
    ],
)
async def test_a_field_out_of_its_bounds_is_refused(project: Project, name: str, value: Any) -> None:
    """With 422, which names the field."""
    requester, worker = await pair(project)
    refused = await requester.ask("POST", "turns:dispatch", requester.dispatching(worker, **{name: value}))
    assert refused.status_code == 422
    assert [fault["loc"] for fault in refused.json()["detail"]] == [["body", name]]


async def test_an_instant_and_a_delay_exclude_each_other(project: Project) -> None:
    """A dispatch says in one way when its turn may begin."""
    requester, worker = await pair(project)
    both = requester.dispatching(worker, delay_seconds=1, not_before="2126-01-01T00:00:00+00:00")
    refused = await requester.ask("POST", "turns:dispatch", both)
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "not_before"]


# ---------------------------------------------------------------- instants


@pytest.mark.parametrize("instant", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59.999999+00:00"])
async def test_the_first_and_the_last_instant_are_instants_like_others(
    project: Project, instant: str
) -> None:
    """They are kept to a microsecond, and a repeat is one; PostgreSQL 15 cannot count until infinity."""
    requester, worker = await pair(project)
    asked = requester.dispatching(worker, not_before=instant)
    turn = await requester.post("turns:dispatch", asked)
    assert await requester.post("turns:dispatch", asked) == turn
    kept = datetime.fromisoformat((await requester.get(f"turns/{turn['turn_id']}"))["not_before"])
    assert abs(kept - datetime.fromisoformat(instant)) <= timedelta(microseconds=1)
    assert (await project.row(turn["turn_id"]))["not_before"] == kept  # and is no infinity, which has no zone


async def test_a_turn_is_not_claimed_before_its_instant(project: Project) -> None:
    """Nor is it handed over; it is queued meanwhile, and others pass it."""
    requester, worker = await pair(project)
    later = await requester.dispatch(worker, delay_seconds=3600)
    assert (await requester.get(f"turns/{later}"))["state"] == "queued"
    assert await worker.claim() is None
    waiter = await waiting(worker, WAIT)
    sooner = await requester.dispatch(worker)
    claim = await waiter.claim()
    assert claim["turn_id"] == sooner


async def test_an_instant_that_has_passed_delays_nothing(project: Project) -> None:
    """The turn is claimed at once."""
    requester, worker = await pair(project)
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    turn_id = await requester.dispatch(worker, not_before=past)
    assert (await worker.claim())["turn_id"] == turn_id


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_waiting_claim_gets_a_turn_when_it_is_due(
    project: Project, elsewhere: Project, where: str
) -> None:
    """On the kernel that dispatched it, and on every other: it need not ask again."""
    requester, worker = await pair(project)
    waits_at = Agent(elsewhere, worker.ref, worker.credential) if where == "elsewhere" else worker
    waiter = await waiting(waits_at, WAIT)
    begun = time.monotonic()
    turn_id = await requester.dispatch(worker, delay_seconds=0.5)
    claim = await waiter.claim()
    assert claim["turn_id"] == turn_id
    assert time.monotonic() - begun > 0.4


async def test_a_claim_takes_a_due_turn_that_no_timer_has_woken(project: Project) -> None:
    """Whatever became of the timer: a turn of a higher priority comes first as soon as it is due."""
    requester, worker = await pair(project)
    await requester.dispatch(worker)
    urgent = await requester.dispatch(worker, priority=9, delay_seconds=3600)
    await project.kernel.database.execute(
        "update cg_turns set due_at = clock_timestamp() where project_id = $1 and due_at is not null",
        project.id,
    )
    assert (await worker.claim())["turn_id"] == urgent


async def test_due_turns_of_no_key_come_in_the_order_of_their_numbers(project: Project) -> None:
    """Also one that was dispatched before others and became due after they were."""
    requester, worker = await pair(project)
    first = await requester.dispatch(worker, delay_seconds=0.05)
    rest = [await requester.dispatch(worker) for _ in range(3)]
    await asyncio.sleep(0.1)
    assert await drained(worker) == [first, *rest]


# ---------------------------------------------------------------- priority


async def test_a_higher_priority_comes_first(project: Project) -> None:
    """Equal ones come by number; a turn without one has 0."""
    requester, worker = await pair(project)
    wanted = [0, -100, 5, 0, 100, 5, -1]
    turns = [await requester.dispatch(worker, priority=priority) for priority in wanted]
    turns.append(await requester.dispatch(worker))
    wanted.append(0)
    ranked = sorted(range(len(turns)), key=lambda at: (-wanted[at], at))
    assert await drained(worker) == [turns[at] for at in ranked]


async def test_a_claim_of_many_takes_those_of_the_highest_priority(project: Project) -> None:
    """In one request, the first claim gets the first turn."""
    requester, worker = await pair(project, capacity=3)
    turns = [await requester.dispatch(worker, priority=priority) for priority in (1, 2, 3, 4)]
    item = {"agent": worker.json, "credential": worker.credential, "limit": 3}
    answers = await worker.post("claims:claim-many", {"items": [item]})
    claimed = [claim["turn_id"] for claim in answers["items"][0]["body"]]
    assert claimed == [turns[3], turns[2], turns[1]]


async def test_a_claim_along_with_a_settle_takes_the_highest_priority(project: Project) -> None:
    """As any other claim."""
    requester, worker = await pair(project)
    await requester.dispatch(worker)
    claim = await worker.claim()
    await requester.dispatch(worker)
    urgent = await requester.dispatch(worker, priority=1)
    answers = await settle_and_claim(worker, claim)
    assert answers["next"]["body"]["turn_id"] == urgent


async def settle_and_claim(worker: Agent, claim: Any) -> Any:
    """Finish the turn and claim the next in one request; returns the item's answer."""
    token = {name: claim[name] for name in ("project_id", "turn_id", "agent_id", "token", "expires_at")}
    item = {
        "claim": token,
        "credential": worker.credential,
        "finish": {"outcome": "succeeded"},
        "next": {},
    }
    answers = await worker.post("turns:settle-many", {"items": [item]})
    assert answers["items"][0]["status"] == 200
    return answers["items"][0]


# ---------------------------------------------------------------- serial keys


async def test_of_one_serial_key_one_turn_runs(project: Project) -> None:
    """Others of the agent are claimed meanwhile; when it ends, the next of the key by number."""
    requester, worker = await pair(project, capacity=9)
    one, two, three = [await requester.dispatch(worker, serial_key="k") for _ in range(3)]
    other = await requester.dispatch(worker)
    first, second = await worker.claim(), await worker.claim()
    assert [first["turn_id"], second["turn_id"]] == [one, other]
    assert await worker.claim() is None
    await worker.finish(first)
    third = await worker.claim()
    assert [third["turn_id"], await worker.claim()] == [two, None]
    await worker.finish(third)
    assert (await worker.claim())["turn_id"] == three


async def test_a_serial_key_is_of_one_agent(project: Project) -> None:
    """Another agent's turns of the same key run beside it."""
    requester, worker = await pair(project)
    another = await project.agent("another")
    for target in (worker, another):
        await requester.dispatch(target, serial_key="k")
    assert await worker.claim()
    assert await another.claim()


async def test_a_suspended_turn_holds_no_key(project: Project) -> None:
    """The next one runs; the suspended one comes back in its place when that has ended."""
    requester, worker = await pair(project, capacity=9)
    one, two, three = [await requester.dispatch(worker, serial_key="k") for _ in range(3)]
    await worker.suspend(await worker.claim())
    second = await worker.claim()
    assert second["turn_id"] == two
    assert (await worker.resume(one)).status_code == 200
    assert await worker.claim() is None
    await worker.finish(second)
    assert await drained(worker) == [one, three]


async def test_a_resumed_turn_comes_before_later_ones_of_its_key(project: Project) -> None:
    """Even if one of these was to be next."""
    requester, worker = await pair(project, capacity=9)
    one, two = [await requester.dispatch(worker, serial_key="k") for _ in range(2)]
    await worker.suspend(await worker.claim())
    assert (await worker.resume(one)).status_code == 200
    assert await drained(worker) == [one, two]


async def test_a_key_is_free_again_after_a_lease_has_ended(project: Project) -> None:
    """The turn itself is the next of its key."""
    requester, worker = await pair(project, capacity=9)
    one, two = [await requester.dispatch(worker, serial_key="k") for _ in range(2)]
    await worker.claim()
    await end_lease(project, one)
    assert await drained(worker) == [one, two]


async def test_a_key_is_free_again_after_a_stop_has_closed_its_turn(project: Project) -> None:
    """The stop of a turn whose lease has ended closes it."""
    requester, worker = await pair(project, capacity=9)
    one, two = [await requester.dispatch(worker, serial_key="k") for _ in range(2)]
    await worker.claim()
    await end_lease(project, one)
    assert (await worker.stop(one)).status_code == 200
    assert await drained(worker) == [two]


async def test_a_turn_of_a_held_key_is_not_handed_over(project: Project) -> None:
    """A waiting claim gets it once the key is free, and a turn of another key at once."""
    requester, worker = await pair(project, capacity=9)
    await requester.dispatch(worker, serial_key="k")
    running = await worker.claim()
    waiter = await waiting(worker, WAIT)
    held = await requester.dispatch(worker, serial_key="k")
    free = await requester.dispatch(worker, serial_key="another")
    assert (await waiter.claim())["turn_id"] == free
    waiter = await waiting(worker, WAIT)
    await worker.finish(running)
    assert (await waiter.claim())["turn_id"] == held


async def test_a_turn_of_a_free_key_is_handed_over(project: Project) -> None:
    """It is born running, as one without a key."""
    requester, worker = await pair(project)
    waiter = await waiting(worker, WAIT)
    turn_id = await requester.dispatch(worker, serial_key="k")
    assert (await waiter.claim())["turn_id"] == turn_id
    row = await project.row(turn_id)
    assert (row["serial_key"], row["state"]) == ("k", "running")


async def test_a_delayed_turn_of_a_key_lets_others_pass_until_it_is_due(project: Project) -> None:
    """From then on it comes by its number."""
    requester, worker = await pair(project, capacity=9)
    later = await requester.dispatch(worker, serial_key="k", delay_seconds=20)
    two, three = [await requester.dispatch(worker, serial_key="k") for _ in range(2)]
    second = await worker.claim()
    assert second["turn_id"] == two
    await move_clock(project.kernel.database, 20)
    assert await worker.claim() is None
    await worker.finish(second)
    assert await drained(worker) == [later, three]


# ---------------------------------------------------------------- fairness


async def test_a_key_that_joins_late_waits_for_one_turn_of_each_other_key(project: Project) -> None:
    """However many those have queued; those without a key count as one."""
    requester, worker = await pair(project)
    for _ in range(20):
        for key in ({"fairness_key": "a"}, {"fairness_key": "b"}, {}):
            await requester.dispatch(worker, **key)
    await drained(worker, most=15)
    late = await requester.dispatch(worker, fairness_key="c")
    assert (await drained(worker)).index(late) <= 3


async def test_keys_take_turns(project: Project) -> None:
    """Whatever the order of dispatch."""
    requester, worker = await pair(project)
    keys = ["a"] * 6 + ["b"] * 3 + [""] * 2
    key_of = {await requester.dispatch(worker, **({"fairness_key": key} if key else {})): key for key in keys}
    assert "".join(key_of[turn] or "-" for turn in await drained(worker)) == "ab-ab-abaaa"


async def test_a_key_that_was_idle_saves_nothing_up(project: Project) -> None:
    """After a long pause it gets its share, and no more."""
    requester, worker = await pair(project)
    first = await requester.dispatch(worker, fairness_key="a")
    busy = [await requester.dispatch(worker, fairness_key="b") for _ in range(30)]
    assert (await drained(worker, most=21))[:2] == [first, busy[0]]
    back = [await requester.dispatch(worker, fairness_key="a") for _ in range(3)]
    order = await drained(worker)
    assert [turn in back for turn in order[:6]].count(True) == 3
    assert [turn in back for turn in order[:2]].count(True) == 1


async def test_each_priority_has_a_fair_order_of_its_own(project: Project) -> None:
    """What a key got at one priority does not count at another."""
    requester, worker = await pair(project)
    for _ in range(10):
        await requester.dispatch(worker, fairness_key="a", priority=1)
    waiting_b = [await requester.dispatch(worker, fairness_key="b") for _ in range(10)]
    await drained(worker, most=10)
    late = await requester.dispatch(worker, fairness_key="a")
    order = await drained(worker)
    assert order.index(late) <= 1
    assert [turn for turn in order if turn != late] == waiting_b


async def test_a_turn_that_waits_for_its_serial_key_does_not_hold_up_the_fair_order(
    project: Project,
) -> None:
    """Keys that join while it waits start where the others are."""
    requester, worker = await pair(project, capacity=2)
    await requester.dispatch(worker, serial_key="s", fairness_key="a")
    await worker.claim()
    await requester.dispatch(worker, serial_key="s", fairness_key="a")  # waits, with the first place
    busy = [await requester.dispatch(worker, fairness_key="b") for _ in range(20)]
    assert await drained(worker, most=10) == busy[:10]
    late = [await requester.dispatch(worker, fairness_key="c") for _ in range(10)]
    order = await drained(worker)
    assert order == [turn for two in zip(busy[10:], late, strict=True) for turn in two]


async def test_turns_of_one_statement_get_places_one_after_the_other(project: Project) -> None:
    """As if each were dispatched by itself; of a serial key only the first is ready."""
    requester, worker = await pair(project, capacity=9)
    orders = [{"fairness_key": "a", "serial_key": "s"}, {"fairness_key": "a"}, {"fairness_key": "b"}] * 3
    bodies = [requester.dispatching(worker, f"k{place}", **order) for place, order in enumerate(orders)]
    requests = [DispatchRequest(structure_request(Dispatch, body), requester.bearer) for body in bodies]
    answers = await dispatch_turns(project.kernel.database, project.id, requests, lease=timedelta(seconds=30))
    assert all(isinstance(answer, Dispatched) for answer in answers)
    rows = [await project.row(f"T-{place + 1}") for place in range(len(orders))]
    assert [row["fair_number"] for row in rows] == [1, 2, 1, 0, 3, 2, 0, 4, 3]
    assert [row["waits_for_key"] for row in rows] == [False, False, False, True, False, False, True] + [
        False
    ] * 2
