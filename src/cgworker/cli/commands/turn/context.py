"""`cg turn context`: a page of a turn's records."""

from __future__ import annotations

from typing import Annotated

from cgworker.cli.connect import as_reader
from cgworker.cli.context_page import read_context_page
from cgworker.cli.identity import project_of
from cgworker.cli.options import (
    CallerFlags,
    Flag,
    PageLimit,
    ProfilesProjectId,
    ServerFlags,
)
from cgworker.cli.subject_flags import TurnFlags
from cgworker.wire.records import TurnContext
from cgworker.wire.refs import TurnRef


async def context(
    server: ServerFlags,
    caller: CallerFlags,
    turn_flags: TurnFlags,
    project_id: ProfilesProjectId = None,
    after_turn_seq: Annotated[
        int, Flag("--after-turn-seq", metavar="N", help="Only records after this number.")
    ] = 0,
    limit: PageLimit = 100,
) -> TurnContext:
    """Show a turn's records with their payloads."""
    turn = TurnRef(project_id=project_of(server, project_id, caller), turn_id=turn_flags.id)
    async with as_reader(server, caller, turn.project_id) as kernel:
        return await read_context_page(kernel, turn, after_turn_seq, limit)
