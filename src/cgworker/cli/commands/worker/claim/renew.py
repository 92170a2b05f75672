"""`cg worker claim renew`: renew a claim's lease."""

from __future__ import annotations

from cgworker.cli.connect import as_claim_holder
from cgworker.cli.options import (
    ClaimFile,
    ServerFlags,
)
from cgworker.cli.payload import read_claim
from cgworker.cli.worker_results import (
    RenewedClaim,
)


async def renew(server: ServerFlags, claim_file: ClaimFile) -> RenewedClaim:
    """Renew a claim's lease."""
    claim = read_claim(claim_file)
    async with as_claim_holder(server, claim.agent) as kernel:
        renewal = await kernel.claims.renew(claim)
    return RenewedClaim(
        project_id=claim.project_id,
        turn_id=claim.turn_id,
        agent_id=claim.agent_id,
        server_time=renewal.server_time,
        expires_at=renewal.expires_at,
        recommended_interval_seconds=renewal.recommended_interval_seconds,
    )
