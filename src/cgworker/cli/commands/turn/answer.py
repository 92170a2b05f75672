"""`cg turn answer`: answer the question of a suspended turn."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import ActingAgent, Flag, ProfilesProjectId, ServerFlags
from cgworker.cli.payload import parse_json
from cgworker.cli.subject_flags import TurnFlags
from cgworker.cli.turn_results import Answered
from cgworker.durable.answers import answer_question
from cgworker.wire.refs import TurnRef


async def answer(
    server: ServerFlags,
    turn_flags: TurnFlags,
    value: Annotated[str, Flag("--json", metavar="JSON", help="The answer.")],
    key: Annotated[
        str | None, Flag("--key", metavar="KEY", help="The question, if several are open.")
    ] = None,
    project_id: ProfilesProjectId = None,
    agent_id: ActingAgent = None,
) -> Answered:
    """Answer a turn's question, and resume the turn. The answer must fit the question's schema."""
    actor = acting_agent(server, project_id, agent_id, command_name="cg turn answer")
    said = parse_json(value)
    async with as_actor(server, actor) as kernel:
        turn = TurnRef(project_id=actor.project_id, turn_id=turn_flags.id)
        answered = await answer_question(kernel, turn, said, key=key)
    return Answered(project_id=actor.project_id, turn_id=turn_flags.id, key=answered, value=said)
