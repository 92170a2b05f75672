"""`cg worker why`: explain a turn's state, from its feed and its agent."""

from __future__ import annotations

from cgworker.cli.connect import as_reader
from cgworker.cli.identity import project_of
from cgworker.cli.options import CallerFlags, ProfilesProjectId, ServerFlags
from cgworker.cli.results import Why
from cgworker.cli.subject_flags import TurnFlags
from cgworker.why import reasons_for, story_of
from cgworker.wire.refs import TurnRef


async def why(
    server: ServerFlags,
    caller: CallerFlags,
    turn_flags: TurnFlags,
    project_id: ProfilesProjectId = None,
) -> Why:
    """Explain why a turn is in its state, and what would change that."""
    turn = TurnRef(project_id=project_of(server, project_id, caller), turn_id=turn_flags.id)
    async with as_reader(server, caller, turn.project_id) as kernel:
        snapshot = await kernel.turns.get(turn)
        events = [event async for event in kernel.turns.events(turn)]
        reasons = [reason async for reason in reasons_for(kernel, snapshot, events)]
    return Why(
        project_id=turn.project_id,
        turn_id=turn.turn_id,
        state=snapshot.state,
        outcome=snapshot.outcome,
        because=tuple(reasons),
        story=tuple(story_of(turn, events)),
    )
