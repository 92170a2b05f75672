"""A turn's kin: ending its children with it, and it with its parent, where that was asked for."""

from __future__ import annotations

from cgworker.client import KernelClient
from cgworker.errors import CommonGroundError, KernelRefused, KernelTrouble
from cgworker.events import logger
from cgworker.turn import Turn
from cgworker.wire.refs import AgentRef, TurnRef

_MOST_CHILDREN = 500  # what a projection gives


async def stop_children(kernel: KernelClient, turn: TurnRef, agent: AgentRef) -> None:
    """Ask for the open children of a stopped turn to be stopped; needs the grant `turn.stop.any`.

    A kernel that refuses is not asked again, and it is logged why.
    """
    try:
        lineage = await kernel.projections.lineage(turn.project_id, turn.turn_id, limit=_MOST_CHILDREN)
        for child in lineage.direct_children:
            if child.state != "closed" and not child.stop_requested:
                ref = TurnRef(project_id=turn.project_id, turn_id=child.turn_id)
                await kernel.turns.stop(ref, requested_by=agent)
    except KernelRefused as refused:
        logger.warning(
            "%s: its children go on (%s); stopping them needs the grant turn.stop.any", turn, refused
        )
    except CommonGroundError as trouble:
        logger.warning("%s: its children could not be stopped: %s", turn, trouble)


async def parent_is_closed(kernel: KernelClient, turn: Turn) -> bool:
    """Whether the turn that dispatched this one has ended; False also where that cannot be found out."""
    cause = turn.snapshot.cause
    if cause.kind != "turn":
        return False
    parent = TurnRef(project_id=turn.ref.project_id, turn_id=cause.id)
    try:
        return (await kernel.turns.get(parent)).state == "closed"
    except (KernelRefused, KernelTrouble):
        return False
