"""`cg turn decline`: decline the question of a suspended turn."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import ActingAgent, Flag, ProfilesProjectId, ServerFlags
from cgworker.cli.subject_flags import TurnFlags
from cgworker.cli.turn_results import DeclinedQuestion
from cgworker.durable.answers import decline_question
from cgworker.wire.refs import TurnRef


async def decline(
    server: ServerFlags,
    turn_flags: TurnFlags,
    reason: Annotated[str | None, Flag("--reason", metavar="TEXT", help="Why, for people; public.")] = None,
    key: Annotated[
        str | None, Flag("--key", metavar="KEY", help="Which question, where several are open.")
    ] = None,
    project_id: ProfilesProjectId = None,
    agent_id: ActingAgent = None,
) -> DeclinedQuestion:
    """Decline a turn's question, and have the turn go on without an answer."""
    actor = acting_agent(server, project_id, agent_id, command_name="cg turn decline")
    async with as_actor(server, actor) as kernel:
        turn = TurnRef(project_id=actor.project_id, turn_id=turn_flags.id)
        declined = await decline_question(kernel, turn, reason, key=key)
    return DeclinedQuestion(project_id=actor.project_id, turn_id=turn_flags.id, key=declined, reason=reason)
