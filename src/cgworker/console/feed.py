"""Follow the project's feed once for a whole console, and tell every open tab when something has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import anyio

from cgworker.client import KernelClient
from cgworker.errors import CommonGroundError
from cgworker.events import logger
from cgworker.retrying import Backoff
from cgworker.wire.projections import EventEntry

_PAGE = 500
_WAIT_SECONDS = 25.0
_AT_ONCE_SECONDS = 0.05  # a kernel that answers "no news" sooner than this does not support waiting
_POLL_SECONDS = 1.0
_GATHER_SECONDS = 0.25  # after news: a busy project is read in few, large pages

OnEvents = Callable[[Sequence[EventEntry]], None]


class Subscription:
    """What one tab waits for.

    Args:
        turn_id: the only turn whose changes count; None counts all.
    """

    def __init__(self, turn_id: str | None) -> None:
        self._turn_id = turn_id
        self._news = asyncio.Event()

    def notify(self, turn_ids: Iterable[str] | None) -> None:
        """Wake the tab if one of these turns is its own; None wakes every tab."""
        if turn_ids is None or self._turn_id is None or self._turn_id in turn_ids:
            self._news.set()

    async def wait(self, seconds: float) -> bool:
        """Wait for news for so long at most; return whether there are any."""
        with anyio.move_on_after(seconds):
            await self._news.wait()
        has_news = self._news.is_set()
        self._news.clear()
        return has_news


class FeedReader:
    """Reads the feed of a project from its present end on, with one request at a time.

    Args:
        kernel: makes the calls.
        project_id: the project.

    Attributes:
        version: counts what has changed; what was read at one version need not be read again.
        trouble: why the kernel cannot be read; None while it can.
        position: the number of the last event that was read; None before the first answer.
        first_position: the number of the last event before those that were read.
    """

    def __init__(self, kernel: KernelClient, project_id: str) -> None:
        self._kernel = kernel
        self._project_id = project_id
        self._task: asyncio.Task[None] | None = None
        self._subscriptions: set[Subscription] = set()
        self._listeners: list[OnEvents] = []
        self._forgetters: list[Callable[[], None]] = []
        self.version: int = 0
        self.trouble: str | None = None
        self.position: int | None = None
        self.first_position: int | None = None

    def start(self) -> None:
        """Start to read, in a task of the running event loop, unless it does already."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def listen(self, listener: OnEvents) -> None:
        """Call a function with each page of events that is read from now on."""
        self._listeners.append(listener)

    def when_restored(self, forget: Callable[[], None]) -> None:
        """Call a function once the feed is seen to end earlier than before: turns that were read are gone."""
        self._forgetters.append(forget)

    def subscribe(self, turn_id: str | None = None) -> Subscription:
        """Open a subscription; `unsubscribe` ends it.

        Args:
            turn_id: the only turn whose changes count; None counts all.
        """
        subscription = Subscription(turn_id)
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription."""
        self._subscriptions.discard(subscription)

    def notify(self, turn_ids: Iterable[str] | None = None) -> None:
        """Note that turns have changed; None wakes every tab."""
        self.version += 1
        for subscription in self._subscriptions:
            subscription.notify(turn_ids)

    async def _run(self) -> None:
        pause = Backoff(0.2, 5.0)
        while True:
            try:
                if self.position is None:
                    self.position = await end_of_feed(self._kernel, self._project_id)
                    self.first_position = self.position
                elif self.trouble is not None:
                    await self._go_back()
                else:
                    await self._read()
                self._is_there()
                pause.reset()
            except CommonGroundError as trouble:
                self._is_away(trouble)
                await anyio.sleep(pause.next_seconds(trouble))
            except Exception:
                logger.exception("the console could not read the feed of %s", self._project_id)
                await anyio.sleep(pause.next_seconds())

    async def _go_back(self) -> None:
        """After trouble, go back to the feed's end if that is earlier: its database may have been restored.

        A feed that ends before the position would have no news until its numbers have come so far again.
        """
        assert self.position is not None
        end = await end_of_feed(self._kernel, self._project_id)
        if end < self.position:
            self.position = end
            for forget in self._forgetters:
                forget()

    async def _read(self) -> None:
        """Read one page, or wait for it."""
        asked_at = anyio.current_time()
        page = await self._kernel.projections.feed(
            self._project_id,
            after_ledger_seq=self.position,
            limit=_PAGE,
            wait_seconds=_WAIT_SECONDS,
        )
        self.position = page.next_after_ledger_seq
        if page.items:
            for listener in self._listeners:
                listener(page.items)
            self.notify({event.subject_id for event in page.items} | _parents(page.items))
            if len(page.items) < _PAGE:
                await anyio.sleep(_GATHER_SECONDS)
        elif anyio.current_time() - asked_at < _AT_ONCE_SECONDS:
            await anyio.sleep(_POLL_SECONDS)

    def _is_there(self) -> None:
        if self.trouble is not None:
            self.trouble = None
            self.notify()

    def _is_away(self, trouble: CommonGroundError) -> None:
        is_new = self.trouble is None
        self.trouble = str(trouble)
        if is_new:
            self.notify()


def _parents(events: Sequence[EventEntry]) -> set[str]:
    return {event.cause_id for event in events if event.cause_kind == "turn" and event.cause_id}


async def end_of_feed(kernel: KernelClient, project_id: str) -> int:
    """Return the number of the project's last event, with few requests however many events there are.

    Args:
        kernel: makes the calls.
        project_id: the project.

    Raises:
        KernelRefused, KernelTrouble: a call failed.
    """

    async def is_beyond(number: int) -> bool:
        page = await kernel.projections.feed(project_id, after_ledger_seq=number, limit=1)
        return not page.items

    low, step = 0, 1024
    while not await is_beyond(low + step):
        low, step = low + step, step * 2
    high = low + step
    while low < high:
        middle = (low + high) // 2
        if await is_beyond(middle):
            high = middle
        else:
            low = middle + 1
    return low
