"""Sweep the outbox: handle results whose turn was closed meanwhile, which no claim will deliver."""

from __future__ import annotations

import time

import anyio.to_thread

from cgworker.client import KernelClient
from cgworker.durable.identity import fingerprint_of
from cgworker.errors import NotFoundError
from cgworker.events import Listener, ResultKept, emit, logger
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.turns import TurnSnapshot
from cgworker.worker.outbox.outbox import Outbox, OutboxEntry
from cgworker.worker.settle import is_closed_with

_OLD_SECONDS = 60.0  # a younger result may be on its way to the kernel


class OutboxSweeper:
    """Removes old results of one agent from the outbox.

    Args:
        outbox: the outbox.
        kernel: the client with the agent's identity.
        agent: the agent.
        listener: called for each result that becomes a dead letter.
    """

    def __init__(
        self, outbox: Outbox, kernel: KernelClient, agent: AgentRef, listener: Listener | None
    ) -> None:
        self._outbox = outbox
        self._kernel = kernel
        self._agent = agent
        self._listener = listener

    async def sweep(self) -> None:
        """Remove results that the kernel has, and make those that it can no longer accept dead letters.

        Raises:
            KernelRefused, KernelTrouble: the state of a turn could not be read.
        """
        for entry in await anyio.to_thread.run_sync(self._find_old):
            turn = TurnRef(project_id=self._agent.project_id, turn_id=entry.turn_id)
            found = await self._look_at(turn, entry)
            if found is None:
                self._make_dead_letter(turn, entry, "its turn is gone")
            elif found.state == "closed" and is_closed_with(found, entry.outcome):
                await self._outbox.discard(entry)
            elif found.state == "closed":
                self._make_dead_letter(
                    turn, entry, f"its turn was closed as {found.outcome} by somebody else"
                )

    def _find_old(self) -> list[OutboxEntry]:
        try:
            self._outbox.tidy()
            return [
                each for each in self._outbox.waiting(self._kernel.base_url, self._agent) if _is_old(each)
            ]
        except OSError as unreadable:
            logger.warning("the outbox cannot be read: %s", unreadable)
            return []

    async def _look_at(self, turn: TurnRef, entry: OutboxEntry) -> TurnSnapshot | None:
        """Return the turn; None if it is gone, or is not the one that the result belongs to."""
        try:
            found = await self._kernel.turns.get(turn)
        except NotFoundError:
            return None
        return found if fingerprint_of(found, self._kernel) == entry.fingerprint else None

    def _make_dead_letter(self, turn: TurnRef, entry: OutboxEntry, reason: str) -> None:
        if (kept := self._outbox.dead_letter(entry)) is not None:
            emit(
                self._listener,
                ResultKept(
                    turn=turn, agent=self._agent, attempt=entry.attempt, path=str(kept), reason=reason
                ),
            )


def _is_old(entry: OutboxEntry) -> bool:
    try:
        return time.time() - entry.path.stat().st_mtime > _OLD_SECONDS
    except FileNotFoundError:
        return False
