"""Claims that wait at this kernel, so that a dispatch can hand its turn to one (store/claims/hand_over.py).

A claim is offered to one statement at a time, and only while it does nothing but wait: one that looks for
itself just now, or is about to, could get a second turn. What comes of an offer is always waited for, even
by a claim whose time is up meanwhile: it may have a turn by then.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define

from cgworker.kernel.long_poll.in_flight_keys import InFlightKeys
from cgworker.kernel.long_poll.long_poll import until_woken
from cgworker.kernel.store.claims.claim import Claimed, ClaimRequest
from cgworker.kernel.store.claims.hand_over import WaitingClaim
from cgworker.wire.refs import AgentRef


@define(eq=False)
class _Parked:
    """A claim that waits; `woken` ends its wait, and `offer` says what it got from a dispatch by then."""

    claim: ClaimRequest
    woken: asyncio.Event
    offer: asyncio.Future[Claimed | None] | None = None

    @property
    def is_free(self) -> bool:
        """Whether it does nothing but wait. News may be on its way to it, or its client may be gone."""
        return self.offer is None and not self.woken.is_set()

    def take(self) -> WaitingClaim:
        """Offer it to a statement."""
        self.offer = asyncio.get_running_loop().create_future()
        return WaitingClaim(self.claim, self.settle)

    def settle(self, claimed: Claimed | None) -> None:
        """Say what it got; only the first word counts.

        Who got nothing looks for itself: its turn may be queued, or the statement's outcome unknown. It is
        woken a round later, so that who dispatched is answered first: that takes less time.
        """
        if self.offer is not None and not self.offer.done():  # or its request was cancelled
            self.offer.set_result(claimed)
        asyncio.get_running_loop().call_soon(self.woken.set)


class ParkedClaims:
    """Those of one kernel process; of each agent, in the order in which they came.

    Args:
        keys: of claims that are not to be met.
    """

    def __init__(self, keys: InFlightKeys) -> None:
        self._keys = keys
        self._by_agent: dict[AgentRef, list[_Parked]] = defaultdict(list)

    @property
    def count(self) -> int:
        """How many there are just now."""
        return sum(map(len, self._by_agent.values()))

    async def wait(self, claim: ClaimRequest, woken: asyncio.Event, seconds: float) -> Claimed | None:
        """Wait for news, as any request does, or for a turn that is handed over.

        Args:
            woken: set by whatever news there is for the claim.
            seconds: how long; longer only until it is known what an offer came to.
        """
        agent, parked = claim.request.agent, _Parked(claim, woken)
        self._by_agent[agent].append(parked)
        try:
            await until_woken(woken, seconds)
        finally:
            self._by_agent[agent].remove(parked)
            if not self._by_agent[agent]:
                del self._by_agent[agent]
        claimed = None if parked.offer is None else await parked.offer
        if claimed is not None:
            self._wake_repeats(claim)
        return claimed

    def _wake_repeats(self, claim: ClaimRequest) -> None:
        """Who asked again with the claim's Idempotency-Key is to have its turn: the answer may get lost."""
        for other in self._by_agent.get(claim.request.agent, ()):
            if claim.key is not None and other.claim.key == claim.key:
                other.woken.set()

    @contextmanager
    def offered(self, agent: AgentRef) -> Iterator[WaitingClaim | None]:
        """The agent's claim that has waited longest, if one is free; nobody else has it in the block."""
        parked = next((one for one in self._by_agent.get(agent, ()) if self._is_free(one)), None)
        if parked is None:
            yield None
            return
        with self._keys.holding([parked.claim]):
            try:
                yield parked.take()
            finally:
                parked.settle(None)

    def _is_free(self, parked: _Parked) -> bool:
        return parked.is_free and not self._keys.has(parked.claim)
