"""`cg worker claim next`: claim an agent's oldest queued turn."""

from __future__ import annotations

from cgworker.cli.connect import as_claim_holder
from cgworker.cli.context_page import read_claimed_context
from cgworker.cli.options import (
    AgentId,
    ClaimOutFile,
    ContextAfter,
    ContextLimit,
    ProjectId,
    ServerFlags,
)
from cgworker.cli.payload import bare, check_place, write_json_file
from cgworker.cli.worker_results import (
    ClaimWithContext,
    ContextNotRead,
    NothingClaimed,
)
from cgworker.wire.refs import AgentRef


async def claim_next(
    server: ServerFlags,
    project_id: ProjectId,
    agent_id: AgentId,
    context_after_turn_seq: ContextAfter = 0,
    context_limit: ContextLimit = 100,
    claim_out_file: ClaimOutFile = None,
) -> ClaimWithContext | NothingClaimed | ContextNotRead:
    """Claim the agent's oldest queued turn. Renew, finish or suspend it before its lease ends."""
    agent = AgentRef(project_id=project_id, agent_id=agent_id)
    check_place(claim_out_file)
    async with as_claim_holder(server, agent) as kernel:
        claim = (await kernel.claims.claim(agent)).claimed
        if claim is None:
            return NothingClaimed()
        if claim_out_file is not None:
            write_json_file(claim_out_file, bare(claim))
        return await read_claimed_context(kernel, claim, context_after_turn_seq, context_limit)
