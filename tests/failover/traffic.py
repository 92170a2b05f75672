"""The load of a drill: turns are dispatched at a rate, claimed and finished, and each answer is noted."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from attrs import define, field

from cgworker import AgentRef, KernelClient, KernelTrouble
from cgworker.errors import CommonGroundError, FencingError
from cgworker.retrying import Backoff
from cgworker.wire.claims import ClaimedTurn
from cgworker.wire.turns import Dispatch, RootRequest
from tests.failover.answers import Answers, Finish

T = TypeVar("T")

_TICK_SECONDS = 0.05
_WAIT_SECONDS = 5.0


@define
class Traffic:
    """Who uses the kernels of a drill.

    Args:
        requesters: clients that dispatch, one for each kernel.
        workers: clients that claim and finish, one for each of their loops.
        target: the agent of the workers.
        turns_per_second: how many turns are dispatched.
        answers: where answers are noted.
    """

    requesters: Sequence[KernelClient]
    workers: Sequence[KernelClient]
    target: AgentRef
    turns_per_second: float
    answers: Answers = field(factory=Answers)
    _count: int = 0
    _tasks: set[asyncio.Task[None]] = field(factory=set)

    def work(self) -> None:
        """Begin to claim and to finish, until `stop`."""
        self._tasks |= {asyncio.create_task(self._work(kernel)) for kernel in self.workers}

    async def dispatch(self, seconds: float) -> None:
        """Dispatch at the rate for a time, whatever becomes of it, and wait until each has an answer."""
        began_at, group = time.monotonic(), set[asyncio.Task[None]]()
        sent = 0
        while (passed := time.monotonic() - began_at) < seconds:
            while sent < passed * self.turns_per_second:
                group.add(asyncio.create_task(self._dispatch(self._count)))
                self._count, sent = self._count + 1, sent + 1
            await asyncio.sleep(_TICK_SECONDS)
        await asyncio.gather(*group)

    async def all_finished(self, seconds: float) -> None:
        """Wait until each dispatched turn has an answered finish, or none comes for so many seconds."""
        finished: set[str] = set()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if len(self.answers.finishes) > len(finished):
                deadline = time.monotonic() + seconds
            finished = {finish.turn_id for finish in self.answers.finishes}
            if finished >= {turn for turn, _ in self.answers.dispatched.values()}:
                return
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Stop to claim; a loop that has failed fails here."""
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    async def _dispatch(self, number: int) -> None:
        kernel = self.requesters[number % len(self.requesters)]
        assert kernel.agent is not None
        dispatch = Dispatch(
            requested_by=kernel.agent,
            target_agent=self.target,
            input={"n": number},
            dispatch_key=f"drill-{number}",
            authority=RootRequest(request_id=f"drill-{number}"),
        )
        turn = await self._insist("dispatch", lambda: kernel.turns.dispatch(dispatch))
        self.answers.dispatched[number] = (turn.turn_id, time.monotonic())

    async def _work(self, kernel: KernelClient) -> None:
        while True:
            key, backoff = uuid.uuid4().hex, Backoff(0.1, 0.5)
            while True:
                asked_at = time.monotonic()
                try:
                    answer = await kernel.claims.claim(
                        self.target, wait_seconds=_WAIT_SECONDS, idempotency_key=key
                    )
                    break
                except KernelTrouble as trouble:
                    self.answers.refused[f"claim: {type(trouble).__name__}"] += 1
                    await asyncio.sleep(backoff.next_seconds(trouble))
            if (claimed := answer.claimed) is not None:
                await self._finish(kernel, claimed, asked_at)

    async def _finish(self, kernel: KernelClient, claimed: ClaimedTurn, asked_at: float) -> None:
        """Finish a turn as a worker does: again until it is answered, or the lease is over."""
        assert isinstance(claimed.attempt, int)
        assert isinstance(claimed.lease_seconds, float | int)
        claim = self.answers.claimed(
            claimed.turn_id, claimed.attempt, claimed.lease_seconds, asked_at=asked_at
        )
        payload = {"turn": claimed.turn_id, "attempt": claimed.attempt}
        claim.ended_at = time.monotonic()
        try:
            await self._insist(
                "finish", lambda: kernel.turns.finish(claimed.claim, "succeeded", final_payload=payload)
            )
        except FencingError:
            self.answers.refused["finish: fenced"] += 1  # another attempt has the turn now, or closed it
        else:
            self.answers.finishes.append(Finish(claimed.turn_id, payload, time.monotonic()))

    async def _insist(self, what: str, ask: Callable[[], Awaitable[T]]) -> T:
        backoff = Backoff(0.1, 0.5)
        while True:
            try:
                return await ask()
            except KernelTrouble as trouble:
                self.answers.refused[f"{what}: {type(trouble).__name__}"] += 1
                await asyncio.sleep(backoff.next_seconds(trouble))
            except CommonGroundError as refused:
                if not isinstance(refused, FencingError):
                    self.answers.refused[f"{what}: {type(refused).__name__}"] += 1
                raise
