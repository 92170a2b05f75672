"""Waits: let the tasks of a handler wait together, and limit how long their turn stays suspended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

import anyio
import anyio.lowlevel
from attrs import evolve

from cgworker.errors import UsageError
from cgworker.outcome import Suspended, Suspending
from cgworker.wire.values import MAX_DELAY_SECONDS


class Waits:
    """The waits of one attempt at a turn.

    `Suspending` cancels the tasks beside the one that raises it, so no other task may be about to store
    what it waits for at that moment.

    Args:
        now: returns the kernel's current time.

    Attributes:
        suspension: the suspension of the turn; None if there is none.
    """

    def __init__(self, now: Callable[[], Awaitable[datetime]]) -> None:
        self._now = now
        self._entering_count = 0
        self._none_entering: anyio.Event | None = None  # there is one while a task is entering
        self._shortest_seconds: float | None = None
        self.suspension: Suspended | None = None

    @asynccontextmanager
    async def entering(self) -> AsyncIterator[None]:
        """Keep all tasks from suspending the turn within the block."""
        if not self._entering_count:
            self._none_entering = anyio.Event()
        self._entering_count += 1
        try:
            yield
        finally:
            self._entering_count -= 1
            if not self._entering_count and self._none_entering is not None:
                self._none_entering.set()

    async def until_all_entered(self) -> None:
        """Wait until no task is within `entering`; tasks that were started before get there first."""
        for _ in range(2):  # trio runs the tasks of one moment in any order
            await anyio.lowlevel.checkpoint()
        while self._entering_count and self._none_entering is not None:
            await self._none_entering.wait()

    async def seconds_left(self, since: datetime, seconds: float) -> float:
        """Return how much of a time is left, in seconds.

        Args:
            since: when the time began, by the kernel's clock.
            seconds: the length of the time.
        """
        return seconds - (await self._now() - since).total_seconds()

    def wake_after(self, seconds: float) -> None:
        """Resume the turn after this time at the latest.

        Args:
            seconds: the time from now, in seconds.
        """
        shortest = self._shortest_seconds
        self._shortest_seconds = seconds if shortest is None else min(shortest, seconds)

    @contextmanager
    def noting_suspension(self) -> Iterator[None]:
        """Note a suspension within the block, so that it counts even if the handler catches `Suspending`."""
        try:
            yield
        except Suspending as suspending:
            if self._shortest_seconds is not None:
                suspending.outcome = evolve(suspending.outcome, resume_after_seconds=self._shortest_seconds)
            self.suspension = suspending.outcome
            raise


async def own_clock() -> datetime:
    """Return the time of this machine's clock, where the kernel's is not known."""
    return datetime.now(UTC)


def check_seconds(seconds: float, what: str) -> None:
    """Check that a turn can wait for this time.

    Args:
        seconds: the time, in seconds.
        what: what the time is for, for the message.

    Raises:
        UsageError: the handler's fault: the time is negative, too long or not a number.
    """
    if not 0 <= seconds <= MAX_DELAY_SECONDS:
        raise UsageError(f"{what} takes 0 to {MAX_DELAY_SECONDS} seconds, not {seconds!r}")
