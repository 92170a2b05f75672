"""`cg worker claim append`: add a record to a claimed turn."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_claim_holder
from cgworker.cli.options import (
    ClaimFile,
    Flag,
    ServerFlags,
)
from cgworker.cli.payload import read_claim, read_json
from cgworker.cli.worker_results import (
    AppendedRecord,
)


async def append(
    server: ServerFlags,
    claim_file: ClaimFile,
    payload_file: Annotated[
        str, Flag("--payload-file", metavar="FILE", help="The record's content as JSON.")
    ],
    role: Annotated[str, Flag("--role", metavar="ROLE", help="The record's role.")] = "progress",
) -> AppendedRecord:
    """Add a record to a claimed turn."""
    claim, payload = read_claim(claim_file), read_json(payload_file)
    async with as_claim_holder(server, claim.agent) as kernel:
        record = await kernel.turns.append(claim, payload, role=role)
    return AppendedRecord(
        project_id=claim.project_id, turn_id=claim.turn_id, agent_id=claim.agent_id, role=role, record=record
    )
