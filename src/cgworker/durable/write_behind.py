"""Write-behind: the values and records of steps are written while the handler goes on.

The values of steps that run at once may be written at once. Their records are appended one after the other,
in the order in which the writes began.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeAlias

import anyio

from cgworker.errors import LeaseLost
from cgworker.events import logger

StartSoon: TypeAlias = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
"""Starts a task that outlives the handler."""


class _Mark:
    """Something that happens once. An `anyio.Event` is made only if somebody waits for it."""

    __slots__ = ("_event", "is_set")

    def __init__(self) -> None:
        self.is_set: bool = False
        self._event: anyio.Event | None = None

    def set(self) -> None:
        self.is_set = True
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        if not self.is_set:
            self._event = self._event or anyio.Event()
            await self._event.wait()


class _Write:
    """A write under way: first a value, then its record.

    Args:
        is_written: whether the value outlives this process already.

    Attributes:
        is_stored: set once the value is stored, or that failed.
        is_over: set once the record is in, or either failed.
        error: why it failed; None if it did not.
        scope: cancels it.
    """

    def __init__(self, *, is_written: bool) -> None:
        self.is_written: bool = is_written
        self.is_stored: _Mark = _Mark()
        self.is_over: _Mark = _Mark()
        self.error: Exception | None = None
        self.scope: anyio.CancelScope = anyio.CancelScope()


class WriteBehind:
    """The writes under way of one attempt at a turn.

    Args:
        start_soon: starts a task that outlives the handler; None makes each caller wait for its write.

    Attributes:
        under_way: the writes under way, and those that failed unheard.
    """

    def __init__(self, start_soon: StartSoon | None) -> None:
        self._start_soon = start_soon
        self.under_way: list[_Write] = []

    def begin(
        self,
        store: Callable[[], Awaitable[Any]],
        publish: Callable[[], Awaitable[Any]],
        *,
        is_written: bool = False,
        max_behind: int | None = None,
    ) -> Callable[[], Awaitable[None]]:
        """Begin to store a value and then publish its record, which no cancellation of the caller cuts off.

        Args:
            store: stores the value; if it is written, so that it outlives a power cut too.
            publish: appends the record.
            is_written: whether the value outlives this process already.
            max_behind: go on while this write, and so many before it, are under way. A failure of this one
                is raised by a later call of this class. None waits for all.

        Returns:
            Waits until the caller may go on, once; raises what `store` or `publish` raised, unless
            `max_behind` is given.
        """
        earlier, write = list(self.under_way), _Write(is_written=is_written)
        run = partial(self._run, write, earlier, store, publish)
        self.under_way.append(write)
        if self._start_soon is not None:
            self._start_soon(run)
            return partial(self._may_go_on, write, earlier, max_behind)

        async def run_here() -> None:
            await run()
            await self._may_go_on(write, earlier, max_behind)

        return run_here

    async def _may_go_on(self, write: _Write, earlier: list[_Write], max_behind: int | None) -> None:
        if max_behind is None:
            await self._over(write)
        elif len(earlier) > max_behind:
            await earlier[-1 - max_behind].is_over.wait()

    async def _run(
        self,
        write: _Write,
        earlier: list[_Write],
        store: Callable[[], Awaitable[Any]],
        publish: Callable[[], Awaitable[Any]],
    ) -> None:
        error: Exception | None = LeaseLost("the write was given up")  # unless it comes to its end
        try:
            with write.scope:
                if not write.is_written:  # it shall not outlive a power cut that one before it does not
                    for before in earlier:
                        if before.is_written:
                            await before.is_stored.wait()
                await store()
                write.is_stored.set()
                if earlier:
                    await earlier[-1].is_over.wait()
                await publish()
                error = None
        except Exception as raised:
            error = raised
        finally:
            write.error = error
            if error is None and write in self.under_way:
                self.under_way.remove(write)
            write.is_stored.set()
            write.is_over.set()

    async def _over(self, write: _Write) -> None:
        """Wait until a write is over; raise its failure, unless another caller has raised it."""
        await write.is_over.wait()
        if write in self.under_way:
            self.under_way.remove(write)
            if write.error is not None:
                raise write.error

    async def stored(self, *, or_written: bool = False) -> None:
        """Wait until the values of all writes are stored.

        Args:
            or_written: whether it is enough that they outlive this process.

        Raises:
            Exception: why one failed.
        """
        for write in list(self.under_way):
            if not (or_written and write.is_written):
                await write.is_stored.wait()
            if write.error is not None:
                await self._over(write)

    async def over(self) -> None:
        """Wait until all writes are over.

        Raises:
            Exception: why one failed.
        """
        while self.under_way:
            await self._over(self.under_way[0])

    async def end(self, seconds: float) -> None:
        """Wait until all writes are over, and give up what is not by then; the handler has ended.

        Args:
            seconds: how long to wait at most.
        """
        with anyio.move_on_after(seconds, shield=True):
            for write in list(self.under_way):
                await write.is_over.wait()
        for write in self.under_way:
            write.scope.cancel()
            if write.error is not None:
                logger.warning("a step was done, but could not be kept: %s", write.error)
        self.under_way.clear()
