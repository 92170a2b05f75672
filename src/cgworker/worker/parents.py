"""Parents: suspended turns that wait for their children, and go on when enough of these are closed.

Who waits for whom stands in the ledger, so any live worker of the parent's agent can wake it, also for one
that was killed. A kernel that can wait tells at once, by the parent's feed; of one that cannot, the feed is
asked for now and again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping

import anyio

from cgworker.client import KernelClient
from cgworker.client.backoff import Backoff
from cgworker.errors import CommonGroundError, KernelTrouble
from cgworker.events import logger
from cgworker.lease import monotonic
from cgworker.outcome import AWAIT_CHILDREN_REASON
from cgworker.wire.ledger import LedgerEvent
from cgworker.wire.refs import TurnRef
from cgworker.worker.remarks import Remark, remark_of

_WATCHED_AT_ONCE = 64  # each takes a connection while the kernel waits
_WAIT_SECONDS = 50.0
_TURN_SECONDS = 1.0  # how long one parent is watched where others wait for their turn
_AT_ONCE_SECONDS = 0.05
_FEED_PAGE = 500


class Parent:
    """A suspended turn and the children it waits for, as its feed tells."""

    def __init__(self, turn: TurnRef) -> None:
        self.turn = turn
        self._after = 0
        self._awaited: frozenset[str] | None = None
        self._first: int | None = None
        self._born: set[str] = set()
        self._closed: set[str] = set()
        self._is_waiting = False
        self._stop_requested = False

    @property
    def is_waiting(self) -> bool:
        """Whether it is suspended to wait for children."""
        return self._is_waiting

    @property
    def may_go_on(self) -> bool:
        """Whether so many of its children are closed as it waits for, or it is to be stopped."""
        awaited = self._born if self._awaited is None else self._awaited
        wanted = len(awaited) if self._first is None else min(self._first, len(awaited))
        return self._stop_requested or (bool(awaited) and len(self._closed & awaited) >= wanted)

    async def read_feed(self, kernel: KernelClient, wait_seconds: float) -> bool:
        """Take note of what is new, and wait for something new if there is nothing; True if there was."""
        has_news = False
        while True:
            page = await kernel.turns.feed(
                self.turn, after_ledger_seq=self._after, limit=_FEED_PAGE, wait_seconds=wait_seconds
            )
            for event in page.items:
                self._take_note(event)
            if len(page.items) < _FEED_PAGE:
                return has_news or bool(page.items)
            has_news, wait_seconds = True, 0

    def _take_note(self, event: LedgerEvent) -> None:
        self._after = event.ledger_seq
        is_own = event.subject_id == self.turn.turn_id
        match event.event_type:
            case "turn.suspended" if is_own:
                self._read_remark(remark_of(event))
            case "turn.resumed" | "turn.finished" if is_own:
                self._is_waiting = False
            case "turn.stop_requested" if is_own:
                self._stop_requested = True
            case "turn.spawned" if not is_own:
                self._born.add(event.subject_id)
            case "turn.finished":
                self._closed.add(event.subject_id)

    def _read_remark(self, remark: Remark) -> None:
        """Which children, and how many; whoever does not say waits for all there are."""
        said = remark.annotations.get("await_children")
        said = said if isinstance(said, Mapping) else {}
        turns, first = said.get("turns"), said.get("first")
        self._is_waiting = remark.reason == AWAIT_CHILDREN_REASON
        self._awaited = frozenset(map(str, turns)) if isinstance(turns, list) else None
        self._first = first if isinstance(first, int) else None


class Parents:
    """Watches the waiting parents of one agent.

    So many as can be are watched at once; where there are more, each is looked at in turn.

    Args:
        kernel: calls under the agent's identity.
        poll_seconds: the longest pause between two looks at a kernel that cannot wait.
        resume: queues a parent again.
    """

    def __init__(
        self, kernel: KernelClient, poll_seconds: float, resume: Callable[[TurnRef], Awaitable[None]]
    ) -> None:
        self._kernel = kernel
        self._poll_seconds = poll_seconds
        self._resume = resume
        self._watched: dict[str, int] = {}
        self._queue: deque[Parent] = deque()
        self._news = anyio.Event()

    def watches(self, turn: TurnRef) -> bool:
        """Whether it is being watched already."""
        return turn.turn_id in self._watched

    def add(self, turn: TurnRef) -> None:
        """Watch a turn that was just suspended, or found so."""
        self._watched[turn.turn_id] = self._watched.get(turn.turn_id, 0) + 1
        if self._watched[turn.turn_id] == 1:
            self._put(Parent(turn))

    def _put(self, parent: Parent) -> None:
        self._queue.append(parent)
        self._news.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        slots = anyio.Semaphore(_WATCHED_AT_ONCE)
        async with anyio.create_task_group() as watching:
            while True:
                await slots.acquire()
                while not self._queue:
                    self._news = anyio.Event()
                    await self._news.wait()
                watching.start_soon(self._watch_in_slot, self._queue.popleft(), slots)

    async def _watch_in_slot(self, parent: Parent, slots: anyio.Semaphore) -> None:
        try:
            await self._watch(parent)
        except CommonGroundError as trouble:  # whoever looks for suspended turns finds it again
            logger.warning("%s stays suspended, it cannot be watched: %s", parent.turn, trouble)
            self._watched.pop(parent.turn.turn_id, None)
        finally:
            slots.release()

    async def _watch(self, parent: Parent) -> None:
        """Watch one parent until it goes on, or for a while where others wait to be watched."""
        pause = Backoff(0.1, self._poll_seconds)
        until = monotonic() + _TURN_SECONDS
        while True:
            added_count = self._watched[parent.turn.turn_id]
            asked_at = monotonic()
            try:
                if await parent.read_feed(self._kernel, _TURN_SECONDS if self._queue else _WAIT_SECONDS):
                    pause.reset()
                elif monotonic() - asked_at < _AT_ONCE_SECONDS:  # the kernel cannot wait
                    await anyio.sleep(pause.next_seconds())
                if parent.is_waiting and parent.may_go_on:
                    await self._resume(parent.turn)
                    continue  # the feed tells that it went on, or waits for others by now
            except KernelTrouble as trouble:
                await anyio.sleep(pause.next_seconds(trouble))
                continue
            if not parent.is_waiting and self._watched[parent.turn.turn_id] == added_count:
                del self._watched[parent.turn.turn_id]
                return
            if self._queue and monotonic() > until:
                self._put(parent)
                return
