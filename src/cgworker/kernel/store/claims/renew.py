"""Extending the lease of a claim."""

from __future__ import annotations

from datetime import timedelta

from cgworker.kernel.store.claims.fence import refuse
from cgworker.kernel.store.ids import hash_of, turn_number
from cgworker.kernel.store.postgres import Database
from cgworker.wire.claims import Renewal
from cgworker.wire.refs import ClaimToken

RENEW_CLAIM = """
update cg_turns
set claim_expires_at = clock_timestamp() + $5, updated_at = clock_timestamp()
where project_id = $1 and turn_number = $2
    and state = 'running' and claim_agent_id = $3 and claim_token_hash = $4
    and claim_expires_at > clock_timestamp()
returning clock_timestamp() as server_time, claim_expires_at, stop_requested
"""


async def renew_claim(database: Database, claim: ClaimToken, *, lease: timedelta) -> Renewal:
    """Let the lease end `lease` from now.

    Raises:
        NotFoundError, FencingError: the claim is not the current one, or its lease has ended.
    """
    row = await database.fetchrow(
        RENEW_CLAIM,
        claim.project_id,
        turn_number(claim.turn_id),
        claim.agent_id,
        hash_of(claim.token),
        lease,
    )
    if row is None:
        await refuse(database, claim)
    return Renewal(
        server_time=row["server_time"],
        expires_at=row["claim_expires_at"],
        recommended_interval_seconds=max(1.0, lease.total_seconds() / 2),
        stop_requested=row["stop_requested"],
    )
