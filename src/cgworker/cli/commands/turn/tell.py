"""`cg turn tell`: tell an open turn something."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_actor
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import ActingAgent, Argument, Flag, ProfilesProjectId, ServerFlags
from cgworker.cli.payload import parse_json
from cgworker.cli.subject_flags import TurnFlags
from cgworker.cli.turn_results import ToldTurn
from cgworker.errors import UsageError
from cgworker.wire.refs import TurnRef


async def tell(
    server: ServerFlags,
    turn_flags: TurnFlags,
    text: Annotated[str | None, Argument(metavar="[TEXT]", help="The message, as a text.")] = None,
    value: Annotated[
        str | None, Flag("--json", metavar="JSON", help="The message, as any JSON value.")
    ] = None,
    key: Annotated[
        str | None,
        Flag("--key", metavar="KEY", help="Names the message: repeating the command does nothing."),
    ] = None,
    project_id: ProfilesProjectId = None,
    agent_id: ActingAgent = None,
) -> ToldTurn:
    """Tell a turn something. Its handler reads it at once, or when it runs again."""
    if (text is None) == (value is None):
        raise UsageError("give the message either as TEXT or by --json")
    actor = acting_agent(server, project_id, agent_id, command_name="cg turn tell")
    message = text if value is None else parse_json(value)
    async with as_actor(server, actor) as kernel:
        await kernel.turns.tell(TurnRef(project_id=actor.project_id, turn_id=turn_flags.id), message, key=key)
    return ToldTurn(project_id=actor.project_id, turn_id=turn_flags.id, key=key, message=message)
