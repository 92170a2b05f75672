"""`WorkerHooks`: the methods of a `Worker` that a subclass may override."""

from __future__ import annotations

from typing import Any

from cgworker.lease import Interruption
from cgworker.turn import Turn
from cgworker.worker.turn_report import TurnReport


class WorkerHooks:
    """The methods of a `Worker` that a subclass may override.

    An exception from `select` or an `on_…` hook is logged and does not affect the turn.
    """

    async def handle(self, turn: Turn) -> Any:
        """Handle a turn of any kind that has no handler of its own.

        Args:
            turn: the turn.

        Returns:
            An outcome, a JSON value as the payload of a success, or None for a success without a payload.
        """
        raise NotImplementedError  # never registered as a handler unless overridden

    def select(self) -> bool:
        """Whether to claim now. After False the worker asks again within `options.poll_seconds`."""
        return True

    async def on_claimed(self, turn: Turn) -> None:
        """Run before the handler of each claimed turn."""

    async def on_interrupted(self, turn: Turn, interruption: Interruption) -> None:
        """Run after a handler was ended early, before its turn is settled."""

    async def on_settled(self, report: TurnReport) -> None:
        """Run after each attempt, whether its outcome was settled or not."""
