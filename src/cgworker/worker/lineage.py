"""Stop the children of a stopped turn, and find out whether its parent is closed."""

from __future__ import annotations

from functools import partial

from cgworker.client import KernelClient
from cgworker.errors import AnswerInvalid, KernelRefused, KernelTrouble
from cgworker.events import logger
from cgworker.lease import call_until_lease_ends
from cgworker.turn import Turn
from cgworker.wire.refs import TurnRef


async def stop_children(kernel: KernelClient, turn: Turn) -> None:
    """Request a stop of the open children of a turn; for children of other agents, needs `turn.stop.any`.

    Call it before the turn is closed, so that the next attempt repeats it if this worker dies meanwhile.
    Refusals of the kernel are logged and not repeated.

    Args:
        kernel: calls under the agent's identity.
        turn: the turn, under a claim that holds.

    Raises:
        LeaseLost: the kernel did not answer before the lease ended.
    """
    refusals: list[str] = []
    try:
        for child in await call_until_lease_ends(partial(_open_children, kernel, turn.ref), turn.lease):
            try:
                await call_until_lease_ends(
                    partial(kernel.turns.stop, child, requested_by=turn.agent), turn.lease, shows_claim=False
                )
            except KernelRefused as refused:
                refusals.append(str(refused))
    except (KernelRefused, AnswerInvalid) as unreadable:
        refusals.append(str(unreadable))
    if refusals:
        logger.warning(
            "%s: %d of its children go on (%s); stopping those of other agents needs the grant turn.stop.any",
            turn.ref,
            len(refusals),
            refusals[0],
        )


async def _open_children(kernel: KernelClient, parent: TurnRef) -> list[TurnRef]:
    found: dict[str, TurnRef] = {}
    async for event in kernel.turns.events(parent):
        child = TurnRef(project_id=parent.project_id, turn_id=event.subject_id)
        if event.event_type == "turn.spawned" and child != parent:
            found[child.turn_id] = child
        elif event.event_type == "turn.finished":
            found.pop(child.turn_id, None)
    return list(found.values())


async def parent_is_closed(kernel: KernelClient, turn: Turn) -> bool:
    """Whether the turn that dispatched this one is closed; False if that is unknown or there is none."""
    cause = turn.snapshot.cause
    if cause.kind != "turn":
        return False
    parent = TurnRef(project_id=turn.ref.project_id, turn_id=cause.id)
    try:
        return (await kernel.turns.get(parent)).state == "closed"
    except (KernelRefused, KernelTrouble, AnswerInvalid):
        return False
