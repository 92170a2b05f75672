"""`cg turn wait`: wait until a turn is closed."""

from __future__ import annotations

from cgworker.cli.connect import as_reader
from cgworker.cli.options import (
    CallerFlags,
    PollIntervalMs,
    ProjectId,
    ServerFlags,
    TimeoutSeconds,
    TurnId,
)
from cgworker.cli.results import WaitedTurn
from cgworker.cli.waiting import wait_until_closed
from cgworker.wire.refs import TurnRef


async def wait(
    server: ServerFlags,
    caller: CallerFlags,
    project_id: ProjectId,
    turn_id: TurnId,
    timeout_seconds: TimeoutSeconds = 60.0,
    poll_interval_ms: PollIntervalMs = 500,
) -> WaitedTurn:
    """Wait until a turn is closed; a suspended turn is not closed."""
    turn = TurnRef(project_id=project_id, turn_id=turn_id)
    async with as_reader(server, caller) as kernel:
        return await wait_until_closed(kernel, turn, timeout_seconds, poll_interval_ms / 1000)
