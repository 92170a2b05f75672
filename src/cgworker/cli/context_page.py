"""Read a page of a turn's records, for commands that show it."""

from __future__ import annotations

from typing import Any

from cgworker.cli.envelope import hint_cut
from cgworker.cli.payload import bare
from cgworker.cli.worker_results import ClaimWithContext, ContextNotRead
from cgworker.client import KernelClient
from cgworker.errors import CommonGroundError
from cgworker.wire.records import TurnContext
from cgworker.wire.refs import ClaimToken, TurnRef


async def read_context_page(
    kernel: KernelClient, turn: TurnRef, after_turn_seq: int, limit: int
) -> TurnContext:
    """Read a page; print a hint on stderr if the kernel cut it before the limit.

    Args:
        kernel: the kernel.
        turn: the turn.
        after_turn_seq: the page begins after the record of this number.
        limit: the most records on the page.

    Raises:
        CommonGroundError: as `turns.context_page`.
    """
    page, has_more = await kernel.turns.context_page(turn, after_turn_seq=after_turn_seq, limit=limit)
    last = page.semantic_items[-1].record.turn_seq if page.semantic_items else after_turn_seq
    hint_cut(len(page.semantic_items), limit, has_more, flag="cg turn context --after-turn-seq", after=last)
    return page


async def read_claimed_context(
    kernel: KernelClient, claim: ClaimToken, after_turn_seq: int, limit: int
) -> ClaimWithContext | ContextNotRead:
    """Read the context of a claimed turn, and suspend the turn if that fails.

    Args:
        kernel: the kernel.
        claim: the claim.
        after_turn_seq: the page begins after the record of this number.
        limit: the most records on the page.

    Returns:
        The claim with its context, or why it could not be read.
    """
    facts: dict[str, Any] = {
        "project_id": claim.project_id,
        "turn_id": claim.turn_id,
        "agent_id": claim.agent_id,
    }
    try:
        context = await read_context_page(kernel, claim.turn, after_turn_seq, limit)
    except CommonGroundError as failed:
        try:
            await kernel.turns.suspend(claim, "context_fetch_error", note=str(failed))
        except CommonGroundError as refused:
            return ContextNotRead(
                **facts,
                claim=bare(claim),
                context_error=str(failed),
                suspended_after_failure=False,
                suspend_error=str(refused),
            )
        return ContextNotRead(
            **facts, claim=bare(claim), context_error=str(failed), suspended_after_failure=True
        )
    return ClaimWithContext(**facts, claim=bare(claim), context=context)
