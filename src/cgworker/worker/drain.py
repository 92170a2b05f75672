"""Drain the attempts that a run holds: a grace period, then an interruption that hands the turns back."""

from __future__ import annotations

import anyio

from cgworker import events
from cgworker.events import emit
from cgworker.lease import Reason, monotonic
from cgworker.wire.refs import AgentRef
from cgworker.worker.attempt import Attempt
from cgworker.worker.context import RunContext

AFTER_GRACE_SECONDS = 5.0
"""How long interrupted attempts may take to settle, in seconds, after their handlers' time is over."""


class Drain:
    """The attempts that a run holds, and their orderly end.

    Args:
        context: what the attempts share.
        agent: the agent whose turns they work.

    Attributes:
        attempts: the attempts held now.
        began_at: when the drain began, on `lease.monotonic`; None before that.
    """

    def __init__(self, context: RunContext, agent: AgentRef) -> None:
        self._context = context
        self._agent = agent
        self._grace: anyio.CancelScope | None = None
        self._is_forced = False
        self._is_interrupting = False
        self.attempts: set[Attempt] = set()
        self.began_at: float | None = None

    def hold(self, attempt: Attempt) -> None:
        """Add an attempt. One that was claimed too late for the grace period is interrupted at once."""
        self.attempts.add(attempt)
        if self._is_interrupting:
            _interrupt(attempt)

    def begin(self) -> bool:
        """Start to count the grace period; False if the drain has begun before."""
        if self.began_at is not None:
            return False
        self.began_at = monotonic()
        return True

    def force(self) -> None:
        """End the grace period now."""
        self._is_forced = True
        if self._grace is not None:
            self._grace.cancel()

    async def finish(self) -> None:
        """Wait for the attempts for the rest of the grace period, then interrupt them and hand them back."""
        options = self._context.options
        await self._wait_for_grace(options.grace_seconds)
        cut = tuple(attempt.ref.turn_id for attempt in self.attempts)
        if not self._is_interrupting:
            self._is_interrupting = True
            for attempt in tuple(self.attempts):
                _interrupt(attempt)
        with anyio.move_on_after(options.interrupt_seconds + AFTER_GRACE_SECONDS):
            await self._wait_for_attempts()
            await self._context.outbox.flush()
        emit(self._context.listener, events.WorkerStopped(agent=self._agent, handed_back=cut))

    async def _wait_for_grace(self, grace_seconds: float) -> None:
        """Wait for the attempts, at most until the grace period is over, which began with the drain."""
        assert self.began_at is not None
        if self._grace is None:
            draining = events.WorkerDraining(
                agent=self._agent, held_count=len(self.attempts), grace_seconds=grace_seconds
            )
            emit(self._context.listener, draining)
        with anyio.move_on_after(grace_seconds - (monotonic() - self.began_at)) as self._grace:
            if not self._is_forced:
                await self._wait_for_attempts()

    async def _wait_for_attempts(self) -> None:
        while self.attempts:  # noqa: ASYNC110  # a handful of times, at the end of a worker's life
            await anyio.sleep(0.02)


def _interrupt(attempt: Attempt) -> None:
    attempt.interrupt(Reason.SHUTDOWN, "the worker shuts down")
