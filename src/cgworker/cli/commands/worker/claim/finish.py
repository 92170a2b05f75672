"""`cg worker claim finish`: close a claimed turn."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_claim_holder
from cgworker.cli.options import (
    ClaimFile,
    Flag,
    ServerFlags,
)
from cgworker.cli.payload import read_claim, read_json
from cgworker.cli.results import (
    ClosedTurn,
)
from cgworker.lifecycle import TurnOutcome
from cgworker.wire.absent import ABSENT


async def finish(
    server: ServerFlags,
    claim_file: ClaimFile,
    outcome: Annotated[TurnOutcome, Flag("--outcome", help="How the turn ends.")],
    payload_file: Annotated[
        str | None, Flag("--payload-file", metavar="FILE", help="The result as JSON.")
    ] = None,
    final_record_role: Annotated[
        str, Flag("--final-record-role", metavar="ROLE", help="The role of the record with the result.")
    ] = "deliverable",
) -> ClosedTurn:
    """Close a claimed turn."""
    claim = read_claim(claim_file)
    payload = ABSENT if payload_file is None else read_json(payload_file)
    async with as_claim_holder(server, claim.agent) as kernel:
        await kernel.turns.finish(
            claim, outcome.value, final_payload=payload, final_record_role=final_record_role
        )
        return ClosedTurn.of(await kernel.turns.get(claim.turn), claimed_by=claim.agent_id)
