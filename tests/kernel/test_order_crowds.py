"""The order of claims under 32 concurrent claimers on two kernels (difference 29)."""

from __future__ import annotations

import os
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from attrs import define, evolve, field

from tests.kernel.project import Agent, Project
from tests.kernel.test_crowds import CROWD, all_at_once

TURNS = int(os.environ.get("CG_TEST_ORDERED_TURNS", "400"))  # 10,000 in a long run
SERIAL_KEYS = TURNS // 20


@define
class Seen:
    """One claim as its claimer saw it."""

    turn_id: str
    asked_at: float
    answered_at: float


@define
class Crowd:
    """Claimers of one agent on two kernels, and what they saw."""

    here: Agent
    there: Agent
    orders: dict[str, dict[str, Any]]
    seen: list[Seen] = field(factory=list)
    running: defaultdict[str, set[str]] = field(factory=lambda: defaultdict(set))
    doubles: list[tuple[str, ...]] = field(factory=list)
    finished_count: int = 0

    async def work(self, place: int) -> None:
        """Claim and finish turns until all are closed; suspend each tenth once."""
        agent = self.here if place % 2 else self.there
        with anyio.fail_after(60 + TURNS / 10):
            while self.finished_count < len(self.orders):
                asked_at = time.monotonic()
                claim = await agent.claim()
                if claim is None:
                    await anyio.sleep(0.01)
                    continue
                self.seen.append(Seen(claim["turn_id"], asked_at, time.monotonic()))
                await self._hold(agent, claim)

    async def _hold(self, agent: Agent, claim: Any) -> None:
        turn_id = claim["turn_id"]
        key = self.orders[turn_id].get("serial_key", turn_id)
        self.running[key].add(turn_id)
        if len(self.running[key]) > 1:
            self.doubles.append(tuple(self.running[key]))
        await anyio.sleep(0.001)
        self.running[key].discard(turn_id)
        is_first = [seen.turn_id for seen in self.seen].count(turn_id) == 1
        if is_first and int(turn_id.removeprefix("T-")) % 10 == 0:
            assert (await agent.suspend(claim)).status_code == 200
            assert (await agent.resume(turn_id)).status_code == 200
        else:
            assert (await agent.finish(claim)).status_code == 200
            self.finished_count += 1


async def crowded(project: Project, elsewhere: Project, order_of: Callable[[int], dict[str, Any]]) -> Crowd:
    """Dispatch all turns, then let the crowd work them."""
    requester, worker = await project.agent("requester"), await project.agent("worker", capacity=CROWD)
    orders = [order_of(place) for place in range(TURNS)]
    turns: list[str] = []
    for first in range(0, TURNS, 200):
        items = [requester.dispatching(worker, **order) for order in orders[first : first + 200]]
        answers = await requester.post("turns:dispatch-many", {"items": items})
        turns += [answer["body"]["turn_id"] for answer in answers["items"]]
    crowd = Crowd(worker, evolve(worker, project=elsewhere), dict(zip(turns, orders, strict=True)))
    await all_at_once(CROWD, crowd.work)
    return crowd


async def test_no_two_turns_of_a_serial_key_run_and_their_order_is_kept(
    project: Project, elsewhere: Project
) -> None:
    """Also where turns are suspended and resumed, and all have priorities and fairness keys besides."""
    chance = random.Random(29)  # it is the same each time
    crowd = await crowded(
        project,
        elsewhere,
        lambda _: {
            "serial_key": f"s-{chance.randrange(SERIAL_KEYS)}",
            "fairness_key": f"f-{chance.randrange(5)}",
        },
    )
    assert crowd.doubles == []
    firsts: defaultdict[str, list[int]] = defaultdict(list)
    for seen in sorted(crowd.seen, key=lambda seen: seen.answered_at):
        number = int(seen.turn_id.removeprefix("T-"))
        key = crowd.orders[seen.turn_id]["serial_key"]
        if number not in firsts[key]:
            firsts[key].append(number)
    assert sum(map(len, firsts.values())) == TURNS
    assert all(numbers == sorted(numbers) for numbers in firsts.values())


async def test_no_priority_is_inverted(project: Project, elsewhere: Project) -> None:
    """No claim got a turn while one of a higher priority waited that nobody was claiming."""
    chance = random.Random(28)  # it is the same each time
    crowd = await crowded(project, elsewhere, lambda _: {"priority": chance.randrange(-3, 4)})
    first: dict[str, Seen] = {}
    for seen in crowd.seen:
        first.setdefault(seen.turn_id, seen)
    last_asked: dict[int, float] = defaultdict(float)
    for seen in first.values():
        priority = crowd.orders[seen.turn_id]["priority"]
        last_asked[priority] = max(last_asked[priority], seen.asked_at)
    inverted = [
        seen
        for seen in first.values()
        for priority, asked_at in last_asked.items()
        if priority > crowd.orders[seen.turn_id]["priority"] and asked_at > seen.answered_at
    ]
    assert inverted == []


async def test_a_key_with_one_turn_behind_many_waits_for_one_of_these(
    project: Project, elsewhere: Project
) -> None:
    """It joins while others are worked; of two claims at once, one gets it."""
    requester, worker = await project.agent("requester"), await project.agent("worker", capacity=CROWD)
    items = [requester.dispatching(worker, fairness_key="long") for _ in range(200)]
    await requester.post("turns:dispatch-many", {"items": items})
    claimers: list[Agent] = [worker, evolve(worker, project=elsewhere)]
    for place in range(20):
        claim = await claimers[place % 2].claim()
        assert (await claimers[place % 2].finish(claim)).status_code == 200
    late = await requester.dispatch(worker, fairness_key="short")
    claims = await all_at_once(2, _claims_of(claimers))
    assert late in {claim["turn_id"] for claim in claims}


def _claims_of(claimers: list[Agent]) -> Callable[[int], Awaitable[Any]]:
    async def claim(place: int) -> Any:
        return await claimers[place].claim()

    return claim
