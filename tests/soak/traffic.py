"""Who uses the kernels: a requester of turns and a schedule, and a follower of the feed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from attrs import define, field

from cgworker import AgentRef, KernelClient, KernelTrouble, TurnRef
from cgworker.retrying import Backoff
from cgworker.wire.absent import ABSENT
from cgworker.wire.projections import EventEntry
from cgworker.wire.schedules import PutSchedule
from cgworker.wire.turns import Dispatch, RootRequest
from tests.soak.stage import PROJECT

MESSAGE_COUNT = 3
"""How many messages a turn gets that waits for some."""

T = TypeVar("T")

_SCHEDULE = "every-two-seconds"
_REPEAT_CHANCE = 0.05
_SLEEP_SECONDS = 1.5  # of every fifth turn that `desk` works, and the delay of another fifth of all


@define
class Requester:
    """Dispatches turns, and again until it has an answer; tells some messages, and does some again.

    Attributes:
        turns: what was dispatched, by number.
        serial_keys: the serial keys of turns that have one, with their agents.
        told: the turns that were told messages.
        redone: the turns that do others again, by number.
        changed: numbers whose repeated dispatch made another turn.
    """

    kernel: KernelClient
    chance: random.Random
    turns: dict[int, TurnRef] = field(factory=dict)
    serial_keys: dict[str, str] = field(factory=dict)
    told: set[str] = field(factory=set)
    redone: dict[int, TurnRef] = field(factory=dict)
    changed: list[int] = field(factory=list)

    def turn_ids(self) -> set[str]:
        """The turns that were dispatched, and those that do them again."""
        return {turn.turn_id for turns in (self.turns, self.redone) for turn in turns.values()}

    async def run(self, turn_count: int, seconds: float) -> None:
        """Dispatch so many turns, spread over the time, beside those of a schedule."""
        assert self.kernel.agent is not None
        agent = self.kernel.agent
        await insist(lambda: self.kernel.schedules.put(_SCHEDULE, self._schedule()))
        async with asyncio.TaskGroup() as group:
            for n in range(turn_count):
                group.create_task(self._dispatch(n))
                await asyncio.sleep(seconds / turn_count)
        await insist(lambda: self.kernel.schedules.pause(_SCHEDULE, requested_by=agent))

    async def _dispatch(self, n: int) -> None:
        dispatch = self._dispatch_of(n)
        turn = self.turns[n] = await insist(lambda: self.kernel.turns.dispatch(dispatch))
        if dispatch.serial_key is not ABSENT:
            self.serial_keys[turn.turn_id] = f"{dispatch.target_agent.agent_id} {dispatch.serial_key}"
        is_repeated = self.chance.random() < _REPEAT_CHANCE
        if is_repeated and await insist(lambda: self.kernel.turns.dispatch(dispatch)) != turn:
            self.changed.append(n)
        if dispatch.input["messages"]:
            await self._tell(turn)
        if n % 10 == 9:
            await self._redo(n, turn)

    async def _tell(self, turn: TurnRef) -> None:
        self.told.add(turn.turn_id)
        for number in range(MESSAGE_COUNT):
            await asyncio.sleep(self.chance.uniform(0.0, 1.0))
            await insist(lambda: self.kernel.turns.tell(turn, number, key=f"message-{number}"))  # noqa: B023

    async def _redo(self, n: int, turn: TurnRef) -> None:
        while (await insist(lambda: self.kernel.turns.get(turn))).state != "closed":  # noqa: ASYNC110
            await asyncio.sleep(1)
        first, second = [await insist(lambda: self.kernel.turns.redo(turn)) for _ in range(2)]
        self.redone[n] = first
        if first != second:
            self.changed.append(n)

    def _schedule(self) -> PutSchedule:
        assert self.kernel.agent is not None
        return PutSchedule(
            requested_by=self.kernel.agent,
            cron="@every 2s",
            target_agent=AgentRef(project_id=PROJECT, agent_id="desk"),
            input={"n": 1, "seconds": 0.1, "sleeps": 0, "messages": 0},
        )

    def _dispatch_of(self, n: int) -> Dispatch:
        assert self.kernel.agent is not None
        # Some are longer than a lease, and all together keep the workers busy: whoever dies holds turns.
        seconds = self.chance.choice([0.1, 0.5, 1.0, 2.0, 4.0, 5.0])
        agent_id = "shop" if n % 3 == 0 else "lab" if n % 6 == 1 else "desk"
        kind = n % 5
        return Dispatch(
            requested_by=self.kernel.agent,
            target_agent=AgentRef(project_id=PROJECT, agent_id=agent_id),
            input={
                "n": n,
                "seconds": seconds,
                "sleeps": _SLEEP_SECONDS if kind == 1 and agent_id == "desk" else 0,
                "messages": MESSAGE_COUNT if kind == 3 and agent_id == "desk" else 0,
            },
            serial_key=f"conversation-{n % 4}" if kind == 2 else ABSENT,
            delay_seconds=_SLEEP_SECONDS if kind == 4 else ABSENT,
            dispatch_key=f"soak-{n}",
            authority=RootRequest(request_id=f"soak-{n}"),
        )


async def insist(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer."""
    backoff = Backoff(0.2, 2.0)
    while True:
        try:
            return await ask()
        except KernelTrouble as trouble:
            await asyncio.sleep(backoff.next_seconds(trouble))


@define
class Follower:
    """Follows the project's feed by long poll, from the beginning.

    Attributes:
        events: what it saw, in the order in which it saw it.
        spawned: the turns that it saw being dispatched.
        closings: how often it saw each turn being closed.
    """

    kernel: KernelClient
    events: list[EventEntry] = field(factory=list)
    spawned: set[str] = field(factory=set)
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
        self.spawned.update(event.subject_id for event in events if event.event_type == "turn.spawned")
        self.closings.update(event.subject_id for event in events if event.event_type == "turn.finished")
        self._news.set()
        self._news = asyncio.Event()

    async def saw_closed(self, turns: set[str], *, seconds: float) -> bool:
        """Wait until these turns and all others are closed; False if it takes too long."""
        try:
            async with asyncio.timeout(seconds):
                while not turns | self.spawned <= self.closings.keys():
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
