"""`cg turn follow`: print a turn's records as they are made."""

from __future__ import annotations

import sys
from typing import Annotated

from cgworker.cli.connect import as_actor
from cgworker.cli.envelope import write_line
from cgworker.cli.identity import acting_agent
from cgworker.cli.options import ActingAgent, ExitStatus, Flag, ProfilesProjectId, ServerFlags
from cgworker.cli.progress import announced
from cgworker.cli.subject_flags import TurnFlags
from cgworker.lifecycle import TurnOutcome
from cgworker.wire.records import SemanticItem
from cgworker.wire.refs import TurnRef


async def follow(
    server: ServerFlags,
    turn_flags: TurnFlags,
    after_turn_seq: Annotated[
        int, Flag("--after-turn-seq", min=0, metavar="N", help="Only records after this number.")
    ] = 0,
    json: Annotated[
        bool, Flag("--json", help="Print one line of JSON per record, even on a terminal.")
    ] = False,
    exit_status: ExitStatus = False,
    project_id: ProfilesProjectId = None,
    agent_id: ActingAgent = None,
) -> int:
    """Print a turn's records as they are made, until it is closed."""
    actor = acting_agent(server, project_id, agent_id, command_name="cg turn follow")
    turn = TurnRef(project_id=actor.project_id, turn_id=turn_flags.id)
    show = _write_line if json or not sys.stdout.isatty() else _draw
    async with as_actor(server, actor) as kernel:
        records = kernel.turns.follow(turn, after_turn_seq=after_turn_seq)
        async for item in announced(records, f"waiting for records of {turn.turn_id}"):
            show(item)
        if not exit_status:
            return 0
        return int((await kernel.turns.get(turn)).outcome != TurnOutcome.SUCCEEDED)


def _write_line(item: SemanticItem) -> None:
    line = {
        "turn_seq": item.record.turn_seq,
        "record_role": item.record.record_role,
        "created_at": item.record.created_at,
        "payload": item.payload,
    }
    write_line(line)


def _draw(item: SemanticItem) -> None:
    from cgworker.cli.views import show

    show(item)
