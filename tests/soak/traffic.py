"""Who uses the kernels meanwhile: a requester that dispatches, and a follower of the project's feed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

from attrs import define, field

from cgworker import AgentRef, KernelClient, KernelTrouble, TurnRef
from cgworker.retrying import Backoff
from cgworker.wire.projections import EventEntry
from cgworker.wire.turns import Dispatch, RootRequest
from tests.soak.stage import PROJECT

_REPEAT_CHANCE = 0.05
_SLEEP_SECONDS = 1.5  # of every fifth turn, unless it is the command's


@define
class Requester:
    """Dispatches turns, and again until it has an answer.

    Attributes:
        turns: what was dispatched, by number.
        changed: numbers whose repeated dispatch made another turn.
    """

    kernel: KernelClient
    chance: random.Random
    turns: dict[int, TurnRef] = field(factory=dict)
    changed: list[int] = field(factory=list)

    async def run(self, turn_count: int, seconds: float) -> None:
        """Dispatch so many turns, spread over the time."""
        async with asyncio.TaskGroup() as group:
            for n in range(turn_count):
                group.create_task(self._dispatch(n))
                await asyncio.sleep(seconds / turn_count)

    async def _dispatch(self, n: int) -> None:
        dispatch = self._dispatch_of(n)
        self.turns[n] = await self._insist(dispatch)
        if self.chance.random() < _REPEAT_CHANCE and await self._insist(dispatch) != self.turns[n]:
            self.changed.append(n)

    def _dispatch_of(self, n: int) -> Dispatch:
        assert self.kernel.agent is not None
        # Some are longer than a lease, and all together keep the workers busy: whoever dies holds turns.
        seconds = self.chance.choice([0.1, 0.5, 1.0, 2.0, 4.0, 5.0])
        return Dispatch(
            requested_by=self.kernel.agent,
            target_agent=AgentRef(project_id=PROJECT, agent_id="shop" if n % 3 == 0 else "desk"),
            input={"n": n, "seconds": seconds, "sleeps": _SLEEP_SECONDS if n % 5 == 1 else 0},
            dispatch_key=f"soak-{n}",
            authority=RootRequest(request_id=f"soak-{n}"),
        )

    async def _insist(self, dispatch: Dispatch) -> TurnRef:
        backoff = Backoff(0.2, 2.0)
        while True:
            try:
                return await self.kernel.turns.dispatch(dispatch)
            except KernelTrouble as trouble:
                await asyncio.sleep(backoff.next_seconds(trouble))


@define
class Follower:
    """Follows the project's feed by long poll, from the beginning.

    Attributes:
        events: what it saw, in the order in which it saw it.
        closings: how often it saw each turn being closed.
    """

    kernel: KernelClient
    events: list[EventEntry] = field(factory=list)
    closings: Counter[str] = field(factory=Counter)
    _news: asyncio.Event = field(factory=asyncio.Event)

    async def run(self) -> None:
        """Until cancelled."""
        backoff, seen = Backoff(0.1, 1.0), 0
        while True:
            try:
                page = await self.kernel.projections.feed(
                    PROJECT, after_ledger_seq=seen, limit=200, wait_seconds=10
                )
            except KernelTrouble as trouble:
                await asyncio.sleep(backoff.next_seconds(trouble))
                continue
            backoff.reset()
            seen = page.next_after_ledger_seq
            self._take(page.items)

    def _take(self, events: tuple[EventEntry, ...]) -> None:
        self.events += events
        self.closings.update(event.subject_id for event in events if event.event_type == "turn.finished")
        self._news.set()
        self._news = asyncio.Event()

    async def saw_closed(self, turn_count: int, *, seconds: float) -> bool:
        """Wait until so many turns are closed; False if it takes too long."""
        try:
            async with asyncio.timeout(seconds):
                while len(self.closings) < turn_count:
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def saw_all(self, events: list[EventEntry], *, seconds: float) -> bool:
        """Wait until it has come as far as these events; False if it takes too long."""
        try:
            async with asyncio.timeout(seconds):
                while len(self.events) < len(events):
                    await self._news.wait()
        except TimeoutError:
            return False
        return True


async def read_feed(kernel: KernelClient) -> list[EventEntry]:
    """The whole feed, page by page, from a kernel that is well."""
    events: list[EventEntry] = []
    seen = 0
    while True:
        page: Any = await kernel.projections.feed(PROJECT, after_ledger_seq=seen, limit=500)
        if not page.items:
            return events
        events += page.items
        seen = page.next_after_ledger_seq
