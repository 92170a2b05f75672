"""The last 24 hours of a project for the plots: from its feed, read back once and then followed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import anyio

from cgworker.client import KernelClient
from cgworker.console.buckets import Buckets
from cgworker.console.feed import FeedReader
from cgworker.errors import CommonGroundError, KernelLacks
from cgworker.events import logger
from cgworker.wire.projections import EventEntry

WINDOWS = (300, 3600, 21600, 86400)
"""The windows of the plots, in seconds."""

_PAGE = 500
_MAX_PAGES = 2000  # of the feed, when it is read back: a million events
_MAX_LIST_PAGES = 200  # of the turns that failed or were stopped
_PAUSE_SECONDS = 1.0


class History:
    """What happened in the last 24 hours.

    Args:
        kernel: makes the calls.
        feed: the reader of the feed, which has not begun yet.
        project_id: the project.

    Attributes:
        buckets: the counts.
        loaded_seconds: how far back the feed has been read.
    """

    def __init__(self, kernel: KernelClient, feed: FeedReader, project_id: str) -> None:
        self._kernel = kernel
        self._feed = feed
        self._project_id = project_id
        self._task: asyncio.Task[None] | None = None
        self._read_until: int | None = None
        self._loaded = 0
        self.buckets: Buckets = Buckets()
        self.loaded_seconds: int = 0
        feed.listen(self._note)

    def start(self) -> None:
        """Start to read back, in a task of the running event loop, unless it does already."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _note(self, events: Sequence[EventEntry]) -> None:
        self.buckets.add(events)

    async def _run(self) -> None:
        while True:
            try:
                if self._feed.first_position is not None and self._loaded < len(WINDOWS):
                    await self._load(WINDOWS[self._loaded], self._feed.first_position)
                elif self.buckets.unsettled:
                    await self._settle()
                self.buckets.forget_before((datetime.now(UTC) - timedelta(days=1)).timestamp())
            except CommonGroundError as trouble:
                logger.debug("the console's plots wait for the kernel: %s", trouble)
            except Exception:
                logger.exception("the console could not read back the feed of %s", self._project_id)
            await anyio.sleep(_PAUSE_SECONDS if self._loaded == len(WINDOWS) else 0.1)

    async def _load(self, window: int, end: int) -> None:
        """Read the stretch of the feed from the begin of a window to what has been read."""
        end = end if self._read_until is None else self._read_until
        start = await self._first_since(datetime.now(UTC) - timedelta(seconds=window), end)
        events: list[EventEntry] = []
        after = start
        for _ in range(_MAX_PAGES):
            if after >= end:
                break
            page = await self._kernel.projections.feed(
                self._project_id, after_ledger_seq=after, limit=min(_PAGE, end - after)
            )
            events += (event for event in page.items if event.ledger_seq <= end)
            if not page.items:
                break
            after = page.next_after_ledger_seq
        self.buckets.add_earlier(events)
        self._read_until, self.loaded_seconds = start, window
        self._loaded += 1
        if self.buckets.unsettled:
            await self._settle()

    async def _first_since(self, instant: datetime, end: int) -> int:
        """Return the number of the last event before an instant."""
        low, high = 0, end
        while low < high:
            middle = (low + high) // 2
            page = await self._kernel.projections.feed(self._project_id, after_ledger_seq=middle, limit=1)
            if not page.items or page.items[0].created_at >= instant:
                high = middle
            else:
                low = page.items[0].ledger_seq
        return low

    async def _settle(self) -> None:
        """Find the outcomes of closed turns: those that are in no other list have succeeded."""
        wanted = dict(self.buckets.unsettled)
        for outcome in ("failed", "stopped"):
            for number in await self._listed(outcome, min(wanted)):
                self.buckets.settle(number, outcome)
        for number in wanted:
            self.buckets.settle(number, "succeeded")

    async def _listed(self, outcome: str, lowest: int) -> list[int]:
        """Return the numbers of the turns with an outcome, down to the lowest that is wanted."""
        numbers: list[int] = []
        before: int | None = None
        for _ in range(_MAX_LIST_PAGES):
            try:
                page = await self._kernel.projections.turns(
                    self._project_id, outcome=outcome, before_turn_seq=before, limit=_PAGE
                )
            except KernelLacks:
                break
            numbers += (entry.project_turn_seq for entry in page.items)
            if len(page.items) < _PAGE or numbers[-1] <= lowest:
                break
            before = numbers[-1]
        return numbers
