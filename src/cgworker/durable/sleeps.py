"""Sleeps: a turn waits for some time without holding a slot.

Its beginning is stored as a record of role `sleep`, `{"key", "seconds"}`, and the turn is suspended with
reason `await_time`. It lasts from the record's instant, by the kernel's clock, however often the handler is
started again meanwhile.
"""

from __future__ import annotations

import anyio

from cgworker.durable.journal import Journal
from cgworker.durable.waits import Waits, check_seconds
from cgworker.outcome import AWAIT_TIME_REASON, Suspended, Suspending

SLEEP_ROLE = "sleep"


class Sleeps:
    """The sleeps of one turn.

    Args:
        journal: the turn's records.
        waits: what else the turn waits for.
    """

    def __init__(self, journal: Journal, waits: Waits) -> None:
        self._journal = journal
        self._waits = waits
        self._beginning = anyio.Lock()

    async def sleep(self, seconds: float, key: str) -> None:
        """Return if the sleep is over, else suspend the turn until it is; see `Turn.sleep`.

        Args:
            seconds: the length of the sleep, from when it began.
            key: the sleep's name within the turn.

        Raises:
            Suspending: the sleep is not over; the worker suspends the turn.
            UsageError: the handler's fault: a turn cannot sleep for this time.
            LeaseLost: the kernel did not answer before the lease ended.
            KernelRefused: the kernel refused a call, for instance because the claim is no longer ours.
        """
        check_seconds(seconds, "a sleep")
        async with self._waits.entering(), self._beginning:
            seconds_left = await self._seconds_left(seconds, key)
        if seconds_left <= 0:
            return
        self._waits.wake_after(seconds_left)
        await self._waits.until_all_entered()
        raise Suspending(Suspended(AWAIT_TIME_REASON, annotations={"await_time": {"key": key}}))

    async def _seconds_left(self, seconds: float, key: str) -> float:
        """Begin the sleep, unless an earlier attempt has; return how much of it is left."""
        for item in await self._journal.records(SLEEP_ROLE):
            begun = item.payload
            if isinstance(begun, dict) and begun.get("key") == key:
                return await self._waits.seconds_left(item.record.created_at, float(begun["seconds"]))
        await self._journal.append({"key": key, "seconds": seconds}, SLEEP_ROLE)
        return seconds
