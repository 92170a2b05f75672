"""Who uses the kernels of both versions: a requester, and a hand that goes from one to the other."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence

from attrs import define, evolve, field

from cgworker import AgentRef, FencingError, KernelClient, TurnRef
from cgworker.wire.refs import ClaimToken
from cgworker.wire.turns import Dispatch, RootRequest
from tests.soak.stage import PROJECT
from tests.soak.traffic import insist

_SECONDS = (0.1, 0.3, 1.0, 2.0)


@define
class Requester:
    """Dispatches turns at any kernel, and each again at another, which must answer the same.

    Attributes:
        turns: what was dispatched, by number.
        changed: numbers whose repeated dispatch made another turn.
        uses_what_is_new: whether dispatches have what old kernels do not know.
    """

    kernels: Sequence[KernelClient]
    chance: random.Random
    turns: dict[int, TurnRef] = field(factory=dict)
    changed: list[int] = field(factory=list)
    uses_what_is_new: bool = False
    is_ending: bool = False

    async def run(self, per_second: float) -> None:
        """Until `is_ending`."""
        async with asyncio.TaskGroup() as group:
            for n in itertools.count():
                if self.is_ending:
                    break
                group.create_task(self._dispatch(n))
                await asyncio.sleep(1 / per_second)

    async def _dispatch(self, n: int) -> None:
        first, second = self.chance.sample(self.kernels, 2)
        agent_id = "shop" if n % 3 == 0 else "desk"
        work = {"n": n, "seconds": self.chance.choice(_SECONDS), "sleeps": 0, "messages": 0}
        dispatch = _dispatch(first.agent, agent_id, f"rolling-{n}", work)
        if self.uses_what_is_new:
            dispatch = evolve(dispatch, priority=n % 2, serial_key=f"key-{n % 3}", delay_seconds=0.5)
        self.turns[n] = await insist(lambda: first.turns.dispatch(dispatch))
        if await insist(lambda: second.turns.dispatch(dispatch)) != self.turns[n]:
            self.changed.append(n)


@define
class Hand:
    """An agent without a worker: each verb of one claim goes to another kernel.

    Attributes:
        finished: the turns whose finish was answered, with the payload.
        refused: what a kernel refused that another had answered.
    """

    kernels: Sequence[KernelClient]
    chance: random.Random
    finished: dict[str, int] = field(factory=dict)
    refused: list[str] = field(factory=list)
    is_ending: bool = False

    async def run(self) -> None:
        """One turn after the other, until `is_ending`."""
        for n in itertools.count():
            if self.is_ending:
                return
            await self._work(n)

    async def _work(self, n: int) -> None:
        first, second = self.chance.sample(self.kernels, 2)
        agent = first.agent
        assert agent is not None
        claiming = asyncio.create_task(self._claim(first, f"hand-{n}"))
        dispatch = _dispatch(agent, agent.agent_id, f"hand-{n}", {"n": n})
        turn = await insist(lambda: second.turns.dispatch(dispatch))
        claim = await claiming
        try:
            await insist(lambda: second.claims.renew(claim))
            await insist(lambda: first.turns.append(claim, {"n": n}, idempotency_key=f"record-{n}"))
            await insist(lambda: second.turns.finish(claim, "succeeded", final_payload=n))
            self.finished[turn.turn_id] = n
            await insist(lambda: first.turns.finish(claim, "succeeded", final_payload=n))
        except FencingError as refusal:
            self.refused.append(f"{turn.turn_id}: {refusal}")

    async def _claim(self, kernel: KernelClient, key: str) -> ClaimToken:
        agent = kernel.agent
        assert agent is not None
        while True:
            answer = await insist(lambda: kernel.claims.claim(agent, wait_seconds=10, idempotency_key=key))
            if answer.claimed is not None:
                return answer.claimed.claim


def _dispatch(requester: AgentRef | None, agent_id: str, key: str, input: object) -> Dispatch:
    assert requester is not None
    return Dispatch(
        requested_by=requester,
        target_agent=AgentRef(project_id=PROJECT, agent_id=agent_id),
        input=input,
        dispatch_key=key,
        authority=RootRequest(request_id=key),
    )
