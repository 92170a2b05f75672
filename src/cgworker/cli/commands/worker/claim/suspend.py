"""`cg worker claim suspend`: suspend a claimed turn."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_claim_holder
from cgworker.cli.options import (
    ClaimFile,
    Flag,
    ServerFlags,
)
from cgworker.cli.payload import read_claim
from cgworker.cli.results import (
    SuspendedTurn,
)


async def suspend(
    server: ServerFlags,
    claim_file: ClaimFile,
    reason: Annotated[str, Flag("--reason", metavar="WORD", help="The reason, in one word.")],
    note: Annotated[str | None, Flag("--note", metavar="TEXT", help="The reason, in a sentence.")] = None,
) -> SuspendedTurn:
    """Suspend a claimed turn until it is resumed."""
    claim = read_claim(claim_file)
    async with as_claim_holder(server, claim.agent) as kernel:
        await kernel.turns.suspend(claim, reason, note=note)
        return SuspendedTurn.of(await kernel.turns.get(claim.turn), claimed_by=claim.agent_id, reason=reason)
