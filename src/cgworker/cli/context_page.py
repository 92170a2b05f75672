"""One page of a turn's context, for commands that show it."""

from __future__ import annotations

from cgworker.cli.envelope import tell_cut
from cgworker.client import KernelClient
from cgworker.wire.records import TurnContext
from cgworker.wire.refs import TurnRef


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
