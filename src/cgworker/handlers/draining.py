"""Read a process's output while its end is waited for, without a task for each pipe."""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence

import anyio

from cgworker.handlers.output import Lines
from cgworker.handlers.process import PidfdProcess, Pipe


class Sink:
    """What becomes of one pipe's data: lines for a listener.

    Args:
        on_line: receives each line.
        mask: hides secrets in a line.
    """

    def __init__(self, on_line: Callable[[str], None], mask: Callable[[str], str]) -> None:
        self._lines = Lines(mask)
        self._on_line = on_line

    def take(self, data: bytes) -> None:
        """Pass on the lines that are complete with these bytes."""
        for line in self._lines.take(data):
            self._on_line(line)

    def end(self) -> None:
        """Pass on the last line, if no newline ended it."""
        for line in self._lines.end():
            self._on_line(line)


class DrainedWait:
    """Waits for a process or for the ends of its pipes, and reads the pipes meanwhile.

    One descriptor, an epoll of its own, tells of all: the event loop has one to watch and one task to wake.

    Args:
        process: the process.
        sinks: for each pipe to read, where its data goes.
    """

    def __init__(self, process: PidfdProcess, sinks: Sequence[tuple[Pipe, Sink]]) -> None:
        self._process = process
        self._open = {pipe.fileno(): (pipe, sink) for pipe, sink in sinks}
        self._news = select.epoll()
        self._watches_process = True
        for descriptor in (process.fileno(), *self._open):
            self._news.register(descriptor, select.EPOLLIN)

    async def ended(self) -> int:
        """Return the exit status, negative for a signal, as soon as the process ends."""
        while (status := self._process.status()) is None:
            await self._read_next()
        return status

    async def drained(self) -> None:
        """Wait until all writers have closed the pipes."""
        if self._open and self._watches_process:
            self._news.unregister(self._process.fileno())
            self._watches_process = False
        while self._open:
            await self._read_next()

    def close(self) -> None:
        """Pass on the last lines of pipes that are still open."""
        self._news.close()
        for _, sink in self._open.values():
            sink.end()

    async def _read_next(self) -> None:
        await anyio.wait_readable(self._news.fileno())
        for descriptor, _ in self._news.poll(0):
            if descriptor not in self._open:  # the process has ended
                continue
            pipe, sink = self._open[descriptor]
            if data := pipe.receive_nowait():
                sink.take(data)
            else:
                self._news.unregister(descriptor)
                del self._open[descriptor]
                sink.end()
