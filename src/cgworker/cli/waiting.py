"""Wait until a turn is closed."""

from __future__ import annotations

import anyio

from cgworker.cli.progress import progress
from cgworker.cli.results import WaitedTurn
from cgworker.client import KernelClient
from cgworker.errors import WaitTimedOut
from cgworker.lifecycle import TurnState
from cgworker.wire.refs import TurnRef

_MAX_POLL_SECONDS = 30.0


async def wait_until_closed(
    kernel: KernelClient, turn: TurnRef, timeout_seconds: float, interval_seconds: float
) -> WaitedTurn:
    """Wait until a turn is closed, and return it. The turn is read at least once.

    Args:
        kernel: the kernel.
        turn: the turn.
        timeout_seconds: how long to wait; 0 reads the turn once.
        interval_seconds: the time between two requests to a kernel that answers at once, as the reference's.

    Raises:
        WaitTimedOut: the turn was not closed in time.
        CommonGroundError: as `turns.get`.
    """
    began_at = anyio.current_time()
    deadline = began_at + timeout_seconds
    state, poll_count, wait_seconds = None, 0, 0.0
    with progress(f"waiting for {turn.turn_id}") as say:
        while True:
            asked_at = anyio.current_time()
            snapshot = await kernel.turns.get(turn, state=state, wait_seconds=wait_seconds)
            if snapshot.state == TurnState.CLOSED:
                waited = round(anyio.current_time() - began_at, 3)
                return WaitedTurn.of(snapshot, poll_count=poll_count, waited_seconds=waited)
            if anyio.current_time() >= deadline:
                message = f"turn {turn.turn_id} did not reach a terminal wait state within"
                raise WaitTimedOut(f"{message} {timeout_seconds} seconds")
            if snapshot.state == state:  # not a long poll: the kernel answered at once
                await anyio.sleep_until(min(asked_at + interval_seconds, deadline))
            say(f"{turn.turn_id} is {snapshot.state}")
            state, poll_count = snapshot.state, poll_count + 1
            wait_seconds = min(deadline - anyio.current_time(), _MAX_POLL_SECONDS)
