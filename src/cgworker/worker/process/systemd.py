"""Notify a supervisor such as systemd of the workers' state, by `sd_notify(3)`.

The protocol needs a few lines only: a datagram with a word to the socket that `NOTIFY_SOCKET` names. If the
variable is not set, nothing is sent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio

from cgworker import events
from cgworker.events import Event, logger
from cgworker.worker.worker import Worker

_WATCHDOG_FRACTION = 1 / 3  # systemd advises half; with a third, one late message does no harm


@asynccontextmanager
async def notifying_systemd(workers: Sequence[Worker]) -> AsyncIterator[None]:
    """Notify systemd, while the block runs, of the readiness and end of the workers, and feed its watchdog.

    Args:
        workers: the workers; none of them may run yet.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        yield
        return
    supervisor = SystemdNotifier(address, len(workers))
    for worker in workers:
        worker.listen(supervisor.note, turns=False)
    async with anyio.create_task_group() as beside:
        if (seconds := watchdog_seconds()) is not None:
            beside.start_soon(supervisor.feed_watchdog, seconds * _WATCHDOG_FRACTION)
        try:
            yield
        finally:
            supervisor.send_stopping()
            beside.cancel_scope.cancel()


class SystemdNotifier:
    """Reports the state of the workers to systemd.

    Args:
        address: the path of its socket, or `@` and the name of an abstract socket.
        worker_count: the number of workers. READY=1 is sent when all of them claim, STOPPING=1 when all of
            them drain.
    """

    def __init__(self, address: str, worker_count: int) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._worker_count = worker_count
        self._started_count = 0
        self._draining_count = 0
        self._is_stopping = False

    def note(self, event: Event) -> None:
        """Send a notification if the event calls for one."""
        match event:
            case events.WorkerStarted():
                self._started_count += 1
                if self._started_count == self._worker_count:
                    self._send("READY=1")
            case events.WorkerDraining():
                self._draining_count += 1
                if self._draining_count == self._worker_count:
                    self.send_stopping()

    def send_stopping(self) -> None:
        """Send STOPPING=1, once."""
        if not self._is_stopping:
            self._is_stopping = True
            self._send("STOPPING=1")

    async def feed_watchdog(self, every_seconds: float) -> None:
        """Send WATCHDOG=1 at this interval until cancelled, which shows that the event loop runs."""
        while True:
            self._send("WATCHDOG=1")
            await anyio.sleep(every_seconds)

    def _send(self, word: str) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                sending.setblocking(False)
                sending.sendto(word.encode(), self._address)
        except OSError as unheard:
            logger.warning("the supervisor at NOTIFY_SOCKET was not told %s: %s", word, unheard)


def watchdog_seconds() -> float | None:
    """Return the watchdog timeout in seconds (WATCHDOG_USEC); None if unset, or WATCHDOG_PID is another's."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        microseconds = int(os.environ["WATCHDOG_USEC"])
    except (KeyError, ValueError):
        return None
    return microseconds / 1e6 if microseconds > 0 else None
