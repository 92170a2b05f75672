"""Keep the result of one turn while it is being settled."""

from __future__ import annotations

import math

import anyio

from cgworker.events import logger
from cgworker.outcome import Closed
from cgworker.turn import Turn
from cgworker.worker.outbox.outbox import Outbox, OutboxEntry, StoredResult


class ResultKeeper:
    """A result that is being stored while it is sent: `secure` it before any wait, `drop` it when delivered.

    A full or broken disk does not stop delivery: the error is logged.

    Args:
        turn: the turn.
        outcome: its outcome.
        outbox: stores the outcome.
        stored: the entry of the outcome if the outbox holds it already.
        delay_seconds: begin to write after so many seconds, unless the result is secured before.

    Attributes:
        max_size: the result's payload has so many bytes as JSON, or fewer.
    """

    def __init__(
        self,
        turn: Turn,
        outcome: Closed,
        outbox: Outbox,
        *,
        stored: OutboxEntry | None = None,
        delay_seconds: float = 0.0,
    ) -> None:
        self._turn = turn
        self._outbox = outbox
        self._entry = stored
        self._result: StoredResult | None = None
        self.max_size: float = math.inf
        if stored is None:
            try:
                self._result = outbox.begin(turn, outcome, delay_seconds=delay_seconds)
                self.max_size = self._result.size
            except RuntimeError as trouble:  # no thread could be started
                self._log(trouble)

    async def secure(self) -> OutboxEntry | None:
        """Wait until the result is on the disk, and return its entry; None if it could not be stored."""
        if self._result is not None:
            with anyio.CancelScope(shield=True):
                try:
                    self._entry = await self._outbox.wait(self._result)
                except Exception as unwritable:  # whatever it is, the result is still to be delivered
                    self._log(unwritable)
            self._result = None
        return self._entry

    def drop(self) -> OutboxEntry | None:
        """Note that the kernel has the result, and return the entry that can be removed now, if there is one.

        A result that was not secured is removed by itself.
        """
        if self._result is not None:
            self._outbox.drop(self._turn.ref, self._result)
        return self._entry

    def _log(self, unwritable: Exception) -> None:
        logger.error("%s: the result could not be stored: %s", self._turn.ref, unwritable)
