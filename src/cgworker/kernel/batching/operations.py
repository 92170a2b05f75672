"""The frequent operations, each with a batcher: what a route calls for a single turn."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from cgworker.kernel.batching.batcher import Load, StatementBatcher
from cgworker.kernel.long_poll.in_flight_keys import InFlightKeys
from cgworker.kernel.long_poll.parked_claims import ParkedClaims
from cgworker.kernel.store.batch import Answers
from cgworker.kernel.store.callers import Caller, PresentedCredential, identify
from cgworker.kernel.store.claims.append import Append, append_records
from cgworker.kernel.store.claims.claim import Claimed, claim_turns
from cgworker.kernel.store.claims.dispatch import dispatch_turns
from cgworker.kernel.store.claims.fence import Fenced
from cgworker.kernel.store.claims.finish import Settled, finish_turns
from cgworker.kernel.store.claims.finish_and_claim import (
    FinishAndClaim,
    FinishedAndClaimed,
    finish_and_claim_turns,
)
from cgworker.kernel.store.claims.reclaim import ClaimRequest
from cgworker.kernel.store.claims.renew import renew_claims
from cgworker.kernel.store.claims.replay import Dispatched, DispatchRequest
from cgworker.kernel.store.claims.suspend import suspend_turns
from cgworker.kernel.store.postgres.database import Database
from cgworker.wire.claims import Renewal
from cgworker.wire.refs import CardBoxRef
from cgworker.wire.turns import Finish, Suspend


class BatchedOperations:
    """The batchers of one kernel. Each takes a project and an item, and returns or raises the answer.

    Args:
        database: where their statements run.
        lease: the length of a lease.

    Attributes:
        load: the load of the kernel, shared by all batchers.
        parked: the waiting claims, to which a dispatch can hand its turn.
    """

    def __init__(self, database: Database, lease: timedelta) -> None:
        load = Load()
        self._database = database
        self._lease = lease
        self._keys = InFlightKeys()
        self.load: Load = load
        self.parked: ParkedClaims = ParkedClaims(self._keys)
        self.identify: StatementBatcher[PresentedCredential, Caller] = StatementBatcher(self._identify, load)
        self.dispatch: StatementBatcher[DispatchRequest, Dispatched] = StatementBatcher(
            self._dispatch_or_hand_over, load
        )
        self.claim: StatementBatcher[ClaimRequest, Claimed | None] = StatementBatcher(self.claim_many, load)
        self.renew: StatementBatcher[Fenced[None], Renewal] = StatementBatcher(
            partial(renew_claims, database, lease=lease), load
        )
        self.append: StatementBatcher[Append, CardBoxRef] = StatementBatcher(
            partial(append_records, database), load
        )
        self.finish: StatementBatcher[Fenced[Finish], Settled] = StatementBatcher(
            partial(finish_turns, database), load
        )
        self.suspend: StatementBatcher[Fenced[Suspend], Settled] = StatementBatcher(
            partial(suspend_turns, database), load
        )

    async def _identify(self, _: str, bearers: list[PresentedCredential]) -> Answers[Caller]:
        return [*await identify(self._database, bearers)]

    async def claim_many(self, project_id: str, claims: Sequence[ClaimRequest]) -> Answers[Claimed | None]:
        """Claim turns as `claim_turns` does; a repeat of a claim in flight waits for the first one."""
        await self._keys.wait_for(claims)
        with self._keys.holding(claims):
            return await claim_turns(self._database, project_id, claims, lease=self._lease)

    async def finish_and_claim_many(
        self, project_id: str, items: Sequence[FinishAndClaim]
    ) -> list[FinishedAndClaimed | None]:
        """Finish turns and claim the next ones, as `finish_and_claim_turns` and `claim_many` do."""
        claims = [item.claim for item in items]
        await self._keys.wait_for(claims)
        with self._keys.holding(claims):
            return await finish_and_claim_turns(self._database, project_id, items, lease=self._lease)

    async def _dispatch_or_hand_over(
        self, project_id: str, dispatches: list[DispatchRequest]
    ) -> Answers[Dispatched]:
        """Dispatch the turns; hand a single one over to a claim that waits for it.

        Several dispatches share a statement only in a busy kernel: there the turns are queued.
        """
        agent = dispatches[0].request.target_agent
        if len(dispatches) > 1 or agent not in self.parked.by_agent or dispatches[0].order.is_timed:
            return await dispatch_turns(self._database, project_id, dispatches, lease=self._lease)
        with self.parked.offering(agent) as waiting:
            return await dispatch_turns(
                self._database, project_id, dispatches, lease=self._lease, waiting=waiting
            )
