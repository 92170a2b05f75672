"""One page of a turn's context, for commands that show it."""

from __future__ import annotations

from typing import Any

from cgworker.cli.envelope import tell_cut
from cgworker.cli.payload import bare
from cgworker.cli.worker_results import ClaimWithContext, ContextNotRead
from cgworker.client import KernelClient
from cgworker.errors import CommonGroundError
from cgworker.wire.records import TurnContext
from cgworker.wire.refs import ClaimToken, TurnRef


async def read_context_page(
    kernel: KernelClient, turn: TurnRef, after_turn_seq: int, limit: int
) -> TurnContext:
    """Read the page; tell on stderr if the kernel cut it before the limit.

    Raises:
        CommonGroundError: as `turns.context_page`.
    """
    page, has_more = await kernel.turns.context_page(turn, after_turn_seq=after_turn_seq, limit=limit)
    last = page.semantic_items[-1].record.turn_seq if page.semantic_items else after_turn_seq
    tell_cut(len(page.semantic_items), limit, has_more, flag="cg turn context --after-turn-seq", after=last)
    return page


async def read_context(
    kernel: KernelClient, claim: ClaimToken, after_turn_seq: int, limit: int
) -> ClaimWithContext | ContextNotRead:
    """Return the claim with its context; suspend the turn if its context cannot be read."""
    facts: dict[str, Any] = {
        "project_id": claim.project_id,
        "turn_id": claim.turn_id,
        "agent_id": claim.agent_id,
    }
    try:
        context = await read_context_page(kernel, claim.turn, after_turn_seq, limit)
    except CommonGroundError as unread:
        try:
            await kernel.turns.suspend(claim, "context_fetch_error", note=str(unread))
        except CommonGroundError as refused:
            return ContextNotRead(
                **facts,
                claim=bare(claim),
                context_error=str(unread),
                suspended_after_failure=False,
                suspend_error=str(refused),
            )
        return ContextNotRead(
            **facts, claim=bare(claim), context_error=str(unread), suspended_after_failure=True
        )
    return ClaimWithContext(**facts, claim=bare(claim), context=context)
