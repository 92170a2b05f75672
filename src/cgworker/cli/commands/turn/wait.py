"""`cg turn wait`: wait until a turn is closed."""

from __future__ import annotations

from cgworker.cli.connect import as_reader
from cgworker.cli.identity import project_of
from cgworker.cli.options import (
    CallerFlags,
    ExitStatus,
    PollIntervalMs,
    ProfilesProjectId,
    ServerFlags,
    TimeoutSeconds,
)
from cgworker.cli.results import WaitedTurn
from cgworker.cli.subject_flags import TurnFlags
from cgworker.cli.waiting import wait_until_closed
from cgworker.wire.refs import TurnRef


async def wait(
    server: ServerFlags,
    caller: CallerFlags,
    turn_flags: TurnFlags,
    project_id: ProfilesProjectId = None,
    timeout_seconds: TimeoutSeconds = 60.0,
    poll_interval_ms: PollIntervalMs = 500,
    exit_status: ExitStatus = False,
) -> WaitedTurn:
    """Wait until a turn is closed; a suspended turn is not closed."""
    turn = TurnRef(project_id=project_of(server, project_id, caller), turn_id=turn_flags.id)
    async with as_reader(server, caller, turn.project_id) as kernel:
        waited = await wait_until_closed(kernel, turn, timeout_seconds, poll_interval_ms / 1000)
    return waited.with_exit_status() if exit_status else waited
