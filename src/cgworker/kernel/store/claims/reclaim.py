"""Claim requests, and the repeat of one: give its turn out again while that still runs under it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from datetime import timedelta
from functools import lru_cache

from attrs import frozen

from cgworker.errors import ConflictError
from cgworker.kernel.store.callers import PresentedCredential
from cgworker.kernel.store.ids import digest
from cgworker.kernel.store.postgres.database import Connection, Row
from cgworker.wire.claims import ClaimNext
from cgworker.wire.converter import unstructure
from cgworker.wire.refs import AgentRef


@frozen
class ClaimRequest:
    """A request for an agent's next turn.

    Attributes:
        request: the body of the request.
        bearer: the credential that the caller presented.
        key: the Idempotency-Key; None if the request has none (difference 4).
        record_limit: the number of the turn's records to return with it (difference 8).
    """

    request: ClaimNext
    bearer: PresentedCredential
    key: str | None = None
    record_limit: int = 0

    def conflict_keys(self) -> Sequence[Hashable]:
        """Return the keys that no two requests in one statement may share."""
        return () if self.key is None else ((self.request.agent.agent_id, self.key),)

    def body_digest(self) -> bytes:
        """Return the digest of the body, to tell a repeat from another use of the key."""
        request = self.request
        is_plain = request.meta is None and request.trace is None
        agent = request.agent
        return _plain_digest(agent.project_id, agent.agent_id) if is_plain else digest(unstructure(request))


@lru_cache(maxsize=1024)  # an agent claims again and again
def _plain_digest(project_id: str, agent_id: str) -> bytes:
    return digest(unstructure(ClaimNext(agent=AgentRef(project_id=project_id, agent_id=agent_id))))


# A statement of its own: simultaneous repeats queue here, and the next statement of each then sees what the
# one before it did.
LOCK_KEY = """
select body_digest
from cg_idempotency_keys
where project_id = $1 and agent_id = $2 and route = 'claims:claim' and key = $3
for update
"""

# Gives the turn a new token while it still runs under the first claim. The first token becomes void, in case
# both answers arrive. The first claim has written the event already. Only a turn that runs has a claim: to
# say so would let PostgreSQL look among all that run. The array makes it find the turn by its whole key. The
# instant from which the claim holds may still be to come (due_claim.py), and stays.
RECLAIM_TURN = """
with claimed as (
    update cg_turns t
    set claim_token_hash = $4, claim_expires_at = greatest(t.claim_expires_at, cg_clock() + $5),
        updated_at = greatest(t.updated_at, cg_clock())
    from cg_idempotency_keys k
    where k.project_id = $1 and k.agent_id = $2 and k.route = 'claims:claim' and k.key = $3
        and t.project_id = k.project_id and t.turn_number = k.turn_number
        and t.turn_number = any (array(
            select turn_number
            from cg_idempotency_keys
            where project_id = $1 and agent_id = $2 and route = 'claims:claim' and key = $3
        ))
        and t.claim_agent_id = $2
        and t.claim_token_hash = decode(k.answer #>> '{}', 'hex') and t.claim_expires_at > cg_clock()
    returning t.*
), remembered as (
    update cg_idempotency_keys k
    set answer = to_json(encode($4, 'hex')), created_at = cg_now()
    from claimed c
    where k.project_id = $1 and k.agent_id = $2 and k.route = 'claims:claim' and k.key = $3
)
select false as is_blocked, cg_clock() as server_time, null::bigint as turn_seq, c.* from claimed c
"""

FORGET_KEY = """
delete from cg_idempotency_keys
where project_id = $1 and agent_id = $2 and route = 'claims:claim' and key = $3
"""


async def reclaim(
    connection: Connection, claim: ClaimRequest, token_hash: bytes, lease: timedelta
) -> list[Row]:
    """Give the turn of the first claim with the key a new token, if it still runs under that claim.

    Args:
        connection: in a transaction, which goes on to claim if there is no such turn.
        claim: the repeat.
        token_hash: the hash of the new token.
        lease: the length of the new lease.

    Returns:
        Its row, with the columns of CLAIM_TURNS; none if the key is free again.

    Raises:
        ConflictError: the key was used with another body.
    """
    agent = claim.request.agent
    scope = (agent.project_id, agent.agent_id, claim.key)
    first = await connection.fetchval(LOCK_KEY, *scope)
    if first is not None and first != claim.body_digest():
        raise ConflictError("idempotency key was used with another body")
    if rows := await connection.fetch(RECLAIM_TURN, *scope, token_hash, lease):
        return rows
    await connection.execute(FORGET_KEY, *scope)
    return []
