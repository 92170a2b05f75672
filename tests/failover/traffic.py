"""The load of a drill: turns are dispatched at a rate, for workers, and each answer is noted."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

from attrs import define, field

from cgworker import AgentRef, KernelClient, KernelTrouble, TurnRef
from cgworker.errors import CommonGroundError
from cgworker.retrying import Backoff
from cgworker.wire.turns import Dispatch, RootRequest
from tests.failover.answers import Answers
from tests.soak.traffic import insist

_TICK_SECONDS = 0.05
_AT_ONCE = 20  # a busy machine answers a request of 200 repeats too late
_LONG_CHANCE, _LONG_SECONDS = 0.02, (1.0, 8.0)
"""How many turns take long, so that they are held and renewed while there is no primary."""


@define
class Traffic:
    """Who dispatches turns in a drill.

    Args:
        requesters: clients that dispatch, one for each kernel.
        target: the agent of the workers.
        turns_per_second: how many turns are dispatched.
        chance: decides which turns take long.
        answers: where answers are noted.
    """

    requesters: Sequence[KernelClient]
    target: AgentRef
    turns_per_second: float
    chance: random.Random
    answers: Answers = field(factory=Answers)
    _dispatches: list[Dispatch] = field(factory=list)

    async def dispatch(self, seconds: float) -> None:
        """Dispatch at the rate for a time, whatever becomes of it, and wait until each has an answer."""
        began_at, group = time.monotonic(), set[asyncio.Task[None]]()
        while (passed := time.monotonic() - began_at) < seconds:
            while len(self._dispatches) < passed * self.turns_per_second:
                number = len(self._dispatches)
                self._dispatches.append(self._dispatch_of(number))
                group.add(asyncio.create_task(self._dispatch(number)))
            await asyncio.sleep(_TICK_SECONDS)
        await asyncio.gather(*group)

    async def dispatch_again(self) -> list[int]:
        """Repeat every dispatch; returns the numbers of those that made another turn than before."""
        kernel, changed = self.requesters[0], []
        for first in range(0, len(self._dispatches), _AT_ONCE):
            some = self._dispatches[first : first + _AT_ONCE]
            turns = await insist(lambda: kernel.turns.dispatch_many(some))  # noqa: B023
            for number, turn in enumerate(turns, first):
                if isinstance(turn, CommonGroundError):
                    raise turn
                changed += [number] if self._note(number, turn) else []
        return changed

    def _dispatch_of(self, number: int) -> Dispatch:
        kernel = self.requesters[0]
        assert kernel.agent is not None
        is_long = self.chance.random() < _LONG_CHANCE
        return Dispatch(
            requested_by=kernel.agent,
            target_agent=self.target,
            input={"n": number, "seconds": self.chance.uniform(*_LONG_SECONDS) if is_long else 0},
            dispatch_key=f"drill-{number}",
            authority=RootRequest(request_id=f"drill-{number}"),
        )

    async def _dispatch(self, number: int) -> None:
        kernel, backoff = self.requesters[number % len(self.requesters)], Backoff(0.1, 0.5)
        while True:
            try:
                turn = await kernel.turns.dispatch(self._dispatches[number])
            except KernelTrouble as trouble:
                self.answers.refused[f"dispatch: {type(trouble).__name__}"] += 1
                await asyncio.sleep(backoff.next_seconds(trouble))
            else:
                self._note(number, turn)
                return

    def _note(self, number: int, turn: TurnRef) -> bool:
        """Note the turn of a dispatch that has none yet; returns whether it had another one."""
        noted, _ = self.answers.dispatched.setdefault(number, (turn.turn_id, time.monotonic()))
        return noted != turn.turn_id
