"""Claims that wait at this kernel, so that a dispatch can hand its turn to one (store/claims/hand_over.py).

A claim is offered to one statement at a time, and only while it is merely waiting: a claim that is running
its own statement, or is about to, could get a second turn. A claim always waits for the result of an offer,
even if its time is over meanwhile, because it may have a turn by then.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define

from cgworker.kernel.long_poll.in_flight_keys import InFlightKeys
from cgworker.kernel.long_poll.long_poll import until_woken
from cgworker.kernel.store.claims.claim import Claimed
from cgworker.kernel.store.claims.hand_over import WaitingClaim
from cgworker.kernel.store.claims.reclaim import ClaimRequest
from cgworker.wire.refs import AgentRef


@define(eq=False)
class _Parked:
    """A waiting claim.

    Attributes:
        claim: the claim request.
        woken: ends the wait.
        offered: the result of an offer to a dispatch; None while there was no offer.
    """

    claim: ClaimRequest
    woken: asyncio.Event
    offered: asyncio.Future[Claimed | None] | None = None

    @property
    def is_free(self) -> bool:
        """Whether the claim can be offered: it has no offer, and nothing has woken it."""
        return self.offered is None and not self.woken.is_set()

    def begin_offer(self) -> WaitingClaim:
        """Return the claim for a dispatch, and offer it to no other."""
        self.offered = asyncio.get_running_loop().create_future()
        return WaitingClaim(self.claim, self.end_offer, self.woken)

    def end_offer(self, claimed: Claimed | None) -> None:
        """Set the result of the offer; only the first result counts.

        A claim that got nothing then runs its own statement: its turn may be queued, or the outcome of the
        dispatch unknown. It is woken in the next round of the event loop, so that the dispatch, which needs
        less time, is answered first.
        """
        if self.offered is not None and not self.offered.done():  # or its request was cancelled
            self.offered.set_result(claimed)
        asyncio.get_running_loop().call_soon(self.woken.set)


class ParkedClaims:
    """The waiting claims of one kernel process, by agent and in the order of arrival.

    Args:
        keys: the keys in flight; a claim with one of them is not offered.

    Attributes:
        by_agent: the waiting claims.
    """

    def __init__(self, keys: InFlightKeys) -> None:
        self._keys = keys
        self.by_agent: dict[AgentRef, list[_Parked]] = defaultdict(list)

    @property
    def count(self) -> int:
        """The number of waiting claims."""
        return sum(map(len, self.by_agent.values()))

    async def wait(self, claim: ClaimRequest, woken: asyncio.Event, seconds: float) -> Claimed | None:
        """Wait for a wake-up, or for a turn that a dispatch hands over.

        Args:
            claim: the request that waits.
            woken: the event that a change for the agent sets.
            seconds: how long to wait at most; longer only until the result of an offer is known.

        Returns:
            The claim that was handed over; None after a wake-up or when the time is over.
        """
        agent, parked = claim.request.agent, _Parked(claim, woken)
        self.by_agent[agent].append(parked)
        try:
            await until_woken(woken, seconds)
        finally:
            self.by_agent[agent].remove(parked)
            if not self.by_agent[agent]:
                del self.by_agent[agent]
        claimed = None if parked.offered is None else await parked.offered
        if claimed is not None:
            self._wake_repeats(claim)
        return claimed

    def _wake_repeats(self, claim: ClaimRequest) -> None:
        """Wake the repeats of the claim, so that they get its turn too: its own answer may get lost."""
        for other in self.by_agent.get(claim.request.agent, ()):
            if claim.key is not None and other.claim.key == claim.key:
                other.woken.set()

    @contextmanager
    def offering(self, agent: AgentRef) -> Iterator[WaitingClaim | None]:
        """Offer the agent's longest waiting free claim to the block alone; None if there is none."""
        parked = next((one for one in self.by_agent.get(agent, ()) if self._is_free(one)), None)
        if parked is None:
            yield None
            return
        with self._keys.holding([parked.claim]):
            try:
                yield parked.begin_offer()
            finally:
                parked.end_offer(None)

    def _is_free(self, parked: _Parked) -> bool:
        return parked.is_free and not self._keys.has(parked.claim)
