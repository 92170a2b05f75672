"""The kernel's time as a worker knows it: what a machine's own clock says decides nothing between workers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from cgworker.client import KernelClient
from cgworker.lease import monotonic

_HALF_A_SECOND = timedelta(seconds=0.5)  # a Date header leaves the fractions out


class KernelTime:
    """Counts on from the last instant that the kernel told, on a clock that nobody can set.

    Claims and renewals tell it to the microsecond; before the first of them `learn` asks for it. Where
    nothing tells it, as at a kernel within this process, the machine's own clock has to do.
    """

    def __init__(self) -> None:
        self._told: datetime | None = None
        self._told_at = 0.0

    def note(self, server_time: datetime) -> None:
        """The kernel's answer, which has just come, carries this instant."""
        self._told, self._told_at = server_time, monotonic()

    def now(self) -> datetime:
        """What the kernel's clock shows."""
        if self._told is None:
            return datetime.now(UTC)
        return self._told + timedelta(seconds=monotonic() - self._told_at)

    async def learned(self, kernel: KernelClient) -> datetime:
        """Return what the kernel's clock shows, and ask for it first if need be.

        Raises:
            KernelRefused, KernelTrouble, AnswerInvalid: there is no answer to be had.
        """
        await self.learn(kernel)
        return self.now()

    async def learn(self, kernel: KernelClient) -> None:
        """Ask the kernel what time it is, unless it has told: its `Date` header is right to half a second.

        Raises:
            KernelRefused, KernelTrouble, AnswerInvalid: there is no answer to be had.
        """
        if self._told is not None:
            return
        date = (await kernel.send("GET", "/healthz")).headers.get("date")
        if date is not None:
            self.note(parsedate_to_datetime(date) + _HALF_A_SECOND)
