"""A worker's estimate of the kernel's clock, so that workers with wrong clocks agree on what is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from cgworker.client import KernelClient
from cgworker.lease import monotonic

_HALF_A_SECOND = timedelta(seconds=0.5)  # a Date header leaves the fractions out


class KernelTime:
    """Counts on a monotonic clock from the last time that the kernel has sent.

    Answers to claims and renewals carry the kernel's time; before the first of them, `learn` asks for it.
    Without any answer, as with a kernel in this process, the machine's own clock is used.
    """

    def __init__(self) -> None:
        self._told: datetime | None = None
        self._told_at = 0.0

    def note(self, server_time: datetime, arrived_at: float | None = None) -> None:
        """Note the kernel's time, from an answer.

        Args:
            server_time: the kernel's time.
            arrived_at: when the answer arrived, on `lease.monotonic`; by default now.
        """
        self._told, self._told_at = server_time, monotonic() if arrived_at is None else arrived_at

    def now(self) -> datetime:
        """Return the kernel's time."""
        if self._told is None:
            return datetime.now(UTC)
        return self._told + timedelta(seconds=monotonic() - self._told_at)

    async def learned(self, kernel: KernelClient) -> datetime:
        """Return the kernel's time, asking for it first if it is not known.

        Raises:
            KernelRefused, KernelTrouble, AnswerInvalid: the kernel gave no usable answer.
        """
        await self.learn(kernel)
        return self.now()

    async def learn(self, kernel: KernelClient) -> None:
        """Ask for the kernel's time if it is not known, by its `Date` header, exact to half a second.

        Raises:
            KernelRefused, KernelTrouble, AnswerInvalid: the kernel gave no usable answer.
        """
        if self._told is not None:
            return
        date = (await kernel.send("GET", "/healthz")).headers.get("date")
        if date is not None:
            self.note(parsedate_to_datetime(date) + _HALF_A_SECOND)
