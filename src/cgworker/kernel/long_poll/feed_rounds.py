"""Rounds of a project's feed: the readers that wait at the same place share one read and one page of bytes.

While events come without a pause, each reader would ask again as soon as it is answered, and read and write
every event for itself. So the readers of a project are answered in rounds. After each there is a pause,
which is longer the more readers it answered: readers may take only a part of the kernel's time from the
work that they look at. On a quiet feed the pause has passed when an event comes, and readers get it at once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable

from attrs import define, field
from starlette.exceptions import HTTPException

from cgworker.kernel.http.request import CLIENT_GONE, Request
from cgworker.kernel.long_poll.long_poll import hung_up, until_woken
from cgworker.kernel.long_poll.notifier import Notifier, feed_topic
from cgworker.kernel.store.projections import FeedBytes, FeedPlace

# The pause for each reader: answering one, and taking its next request, costs the kernel 0.3 to 0.5 ms.
_PAUSE_SECONDS = 0.01
_LAGGING_PAUSE_SECONDS = 0.002  # of a reader whose page was full: it has to catch up
_MAX_PAUSE_SECONDS = 2.0
_READS_AT_ONCE = 4  # of different places


Read = Callable[[str, FeedPlace], Awaitable[FeedBytes]]


@define(eq=False)
class _Reader:
    """A waiting reader; its page is None if its time is over."""

    place: FeedPlace
    page: asyncio.Future[FeedBytes | None]

    def answer(self, page: FeedBytes | None) -> None:
        """End the wait, unless it has ended."""
        if not self.page.done():
            self.page.set_result(page)

    def refuse(self, trouble: Exception) -> None:
        """End the wait with an error, unless it has ended."""
        if not self.page.done():
            self.page.set_exception(trouble)


@define(eq=False)
class _Waiting:
    """The waiting readers of one project; `woken` is set when a round may have something for them."""

    readers: dict[_Reader, None] = field(factory=dict)
    woken: asyncio.Event | None = None

    def wake(self) -> None:
        """Let a round look again."""
        if self.woken is not None:  # else the first round is still to come
            self.woken.set()


class FeedRounds:
    """The waiting readers of all projects' feeds at one kernel.

    Args:
        notifier: wakes and counts them.
        read: reads a page of a project's feed, with all events that were committed before.
    """

    def __init__(self, notifier: Notifier, read: Read) -> None:
        self._notifier = notifier
        self._read = read
        self._projects: dict[str, _Waiting] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """End all rounds; the kernel has been closed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def next_page(
        self, request: Request, project_id: str, place: FeedPlace, wait_seconds: float
    ) -> FeedBytes:
        """Return the page at a place as soon as it has events, or when the time is over.

        Args:
            request: the request; its client's disconnect ends the wait.
            project_id: the project of the feed.
            place: where the reader is.
            wait_seconds: how long to wait.

        Raises:
            HTTPException: 499, the client disconnected.
            CommonGroundError: raised by the read.
        """
        loop = asyncio.get_running_loop()
        reader = _Reader(place, loop.create_future())
        gone = asyncio.ensure_future(hung_up(request))
        gone.add_done_callback(lambda _: reader.refuse(HTTPException(CLIENT_GONE, "the client hung up")))
        timer = loop.call_later(wait_seconds, reader.answer, None)
        waiting = self._waiting_of(project_id)
        waiting.readers[reader] = None
        waiting.wake()
        try:
            with self._notifier.waiting(()):  # it is counted; the rounds listen for it
                page = await reader.page
        finally:
            del waiting.readers[reader]
            if not waiting.readers:
                waiting.wake()
            timer.cancel()
            gone.cancel()
        return page or await self._read(project_id, place)

    def _waiting_of(self, project_id: str) -> _Waiting:
        waiting = self._projects.get(project_id)
        if waiting is None:
            waiting = self._projects[project_id] = _Waiting()
            task = asyncio.create_task(self._run(project_id, waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return waiting

    async def _run(self, project_id: str, waiting: _Waiting) -> None:
        """Hold rounds until no reader is left."""
        try:
            with self._notifier.listening([feed_topic(project_id)]) as woken:
                waiting.woken = woken
                while waiting.readers:
                    woken.clear()
                    await asyncio.sleep(await self._round(project_id, list(waiting.readers)))
                    await until_woken(woken, self._notifier.recheck_seconds)
        finally:
            del self._projects[project_id]

    async def _round(self, project_id: str, readers: list[_Reader]) -> float:
        """Answer the readers for whom there are events; return how long to pause."""
        by_place: dict[FeedPlace, list[_Reader]] = defaultdict(list)
        for reader in readers:
            by_place[reader.place].append(reader)
        few = asyncio.Semaphore(_READS_AT_ONCE)

        async def answer(place: FeedPlace, readers: list[_Reader]) -> float:
            async with few:
                return await self._answer(project_id, place, readers)

        pauses = await asyncio.gather(*(answer(*each) for each in by_place.items()))
        return min(max(_PAUSE_SECONDS, sum(pauses)), _MAX_PAUSE_SECONDS)

    async def _answer(self, project_id: str, place: FeedPlace, readers: list[_Reader]) -> float:
        """Answer the readers that wait at one place; return how long to pause afterwards."""
        try:
            page = await self._read(project_id, place)
        except Exception as trouble:
            for reader in readers:
                reader.refuse(trouble)
            return 0.0
        if not page.count and not self._notifier.is_closing:
            return 0.0
        for reader in readers:
            reader.answer(page)
        return len(readers) * (_LAGGING_PAUSE_SECONDS if page.count >= place.limit else _PAUSE_SECONDS)
