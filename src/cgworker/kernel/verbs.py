"""The busy verbs, each combined (combining.py): what a route calls for a single turn."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from cgworker.kernel.combining import Combiner, Load
from cgworker.kernel.keys import KeysInFlight
from cgworker.kernel.parked import ParkedClaims
from cgworker.kernel.store.batch import Answers
from cgworker.kernel.store.claims.append import Append, append_records
from cgworker.kernel.store.claims.claim import Claim, Claimed, claim_turns
from cgworker.kernel.store.claims.dispatch import Dispatched, Dispatching, dispatch_turns
from cgworker.kernel.store.claims.fence import Fenced
from cgworker.kernel.store.claims.finish import Settled, finish_turns
from cgworker.kernel.store.claims.renew import renew_claims
from cgworker.kernel.store.claims.suspend import suspend_turns
from cgworker.kernel.store.postgres import Database
from cgworker.wire.claims import Renewal
from cgworker.wire.refs import CardBoxRef
from cgworker.wire.turns import Finish, Suspend


class Verbs:
    """Each takes a project and an item, and gives the item's answer or raises its refusal.

    Attributes:
        load: what all of them are at work on.
        parked: the claims that wait, to which a dispatch hands its turn.
    """

    def __init__(self, database: Database, lease: timedelta) -> None:
        load = Load()
        self._database = database
        self._lease = lease
        self._keys = KeysInFlight()
        self.load: Load = load
        self.parked: ParkedClaims = ParkedClaims(self._keys)
        self.dispatch: Combiner[Dispatching, Dispatched] = Combiner(
            partial(_dispatch, database, self.parked, lease), load
        )
        self.claim: Combiner[Claim, Claimed | None] = Combiner(self.claim_many, load)
        self.renew: Combiner[Fenced[None], Renewal] = Combiner(
            partial(renew_claims, database, lease=lease), load
        )
        self.append: Combiner[Append, CardBoxRef] = Combiner(partial(append_records, database), load)
        self.finish: Combiner[Fenced[Finish], Settled] = Combiner(partial(finish_turns, database), load)
        self.suspend: Combiner[Fenced[Suspend], Settled] = Combiner(partial(suspend_turns, database), load)

    async def claim_many(self, project_id: str, claims: Sequence[Claim]) -> Answers[Claimed | None]:
        """As `claim_turns`; who asks again while its first request is under way waits for that one."""
        await self._keys.wait_for(claims)
        with self._keys.holding(claims):
            return await claim_turns(self._database, project_id, claims, lease=self._lease)


async def _dispatch(
    database: Database,
    parked: ParkedClaims,
    lease: timedelta,
    project_id: str,
    dispatches: list[Dispatching],
) -> Answers[Dispatched]:
    """Hand the turn over, if a claim waits for it. Several at once only come to a kernel that is busy."""
    if len(dispatches) > 1:
        return await dispatch_turns(database, project_id, dispatches, lease=lease)
    with parked.offered(dispatches[0].request.target_agent) as waiting:
        return await dispatch_turns(database, project_id, dispatches, lease=lease, waiting=waiting)
