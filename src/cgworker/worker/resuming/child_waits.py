"""Watch suspended parents that wait for their children, and resume them when enough of these are closed.

The ledger says which turn waits for which, so any live worker of the parent's agent can resume it, also after
another worker was killed. With few parents, the feed of each is long-polled. With many, the project's feed is
long-polled on one connection and shows which parent's feed to read. A kernel that cannot long-poll is polled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import anyio
import anyio.abc

from cgworker.client import KernelClient
from cgworker.errors import CommonGroundError, KernelTrouble
from cgworker.events import logger
from cgworker.lease import monotonic
from cgworker.outcome import AWAIT_CHILDREN_REASON
from cgworker.retrying import Backoff
from cgworker.wire.ledger import LedgerEvent
from cgworker.wire.refs import TurnRef
from cgworker.worker.batching.limiter import background_calls
from cgworker.worker.suspension import SuspensionCause, cause_of_suspension

_MAX_FEEDS = 16  # each takes a connection while the kernel waits
_WAIT_SECONDS = 50.0
# How often a parent's feed is read from its beginning: the project's feed may skip an event, as that of the
# reference does, and a kernel that lost its last events gives their numbers again.
_SURE_SECONDS = 300.0
_IMMEDIATE_SECONDS = 0.05
_FEED_PAGE = 500
_NOTIFYING = ("turn.finished", "turn.resumed", "turn.stop_requested")  # of the parent, or of a child of it


class WaitingParent:
    """A suspended turn and the children it waits for, read from its feed.

    Attributes:
        turn: the turn.
        read_until: the last event of its feed that has been read; 0 before the first.
    """

    def __init__(self, turn: TurnRef) -> None:
        self.turn = turn
        self._notice = anyio.Event()
        self.start_over()

    def start_over(self) -> None:
        """Forget all that was read: the next read begins with the first event of the feed."""
        self.read_until: int = 0
        self._began_at = monotonic()
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
    def is_ready(self) -> bool:
        """Whether enough of its children are closed, or a stop of it is requested."""
        awaited = self._born if self._awaited is None else self._awaited
        wanted = len(awaited) if self._first is None else min(self._first, len(awaited))
        return self._stop_requested or (bool(awaited) and len(self._closed & awaited) >= wanted)

    @property
    def has_new_events(self) -> bool:
        """Whether `notify` was called since the last `wait_for_notice`."""
        return self._notice.is_set()

    def notify(self) -> None:
        """Note that its feed may have new events."""
        self._notice.set()

    async def wait_for_notice(self) -> None:
        """Wait until `notify` is called, for five minutes at most."""
        with anyio.move_on_after(_SURE_SECONDS):
            await self._notice.wait()
        self._notice = anyio.Event()

    async def read_feed(self, kernel: KernelClient, wait_seconds: float) -> bool:
        """Read the new events, waiting for one if there is none.

        Args:
            kernel: calls under the agent's identity.
            wait_seconds: how long the kernel may wait for an event.

        Returns:
            Whether there were new events.

        Raises:
            KernelRefused, KernelTrouble: the feed could not be read.
        """
        has_new_events = False
        if monotonic() - self._began_at > _SURE_SECONDS:
            self.start_over()
        while True:
            page, has_more = await kernel.turns.feed_page(
                self.turn, after_ledger_seq=self.read_until, limit=_FEED_PAGE, wait_seconds=wait_seconds
            )
            for event in page.items:
                self._follow(event)
            if not has_more:
                return has_new_events or bool(page.items)
            has_new_events, wait_seconds = True, 0

    def _follow(self, event: LedgerEvent) -> None:
        self.read_until = event.ledger_seq
        is_own = event.subject_id == self.turn.turn_id
        match event.event_type:
            case "turn.suspended" if is_own:
                self._read_cause(cause_of_suspension(event))
            case "turn.resumed" | "turn.finished" if is_own:
                self._is_waiting = False
            case "turn.stop_requested" if is_own:
                self._stop_requested = True
            case "turn.spawned" if not is_own:
                self._born.add(event.subject_id)
            case "turn.finished":
                self._closed.add(event.subject_id)

    def _read_cause(self, cause: SuspensionCause) -> None:
        """Read which children the turn waits for, and how many; by default all that there are."""
        said = cause.annotations.get("await_children")
        said = said if isinstance(said, Mapping) else {}
        turns, first = said.get("turns"), said.get("first")
        self._is_waiting = cause.reason == AWAIT_CHILDREN_REASON
        self._awaited = frozenset(map(str, turns)) if isinstance(turns, list) else None
        self._first = first if isinstance(first, int) else None


class ChildWaitWatcher:
    """Watches the waiting parents of one agent.

    Args:
        kernel: calls under the agent's identity.
        project_id: the agent's project.
        poll_seconds: the longest pause between two reads at a kernel that cannot long-poll.
        resume: resumes a parent.
    """

    def __init__(
        self,
        kernel: KernelClient,
        project_id: str,
        poll_seconds: float,
        resume: Callable[[TurnRef], Awaitable[None]],
    ) -> None:
        self._kernel = kernel
        self._project_id = project_id
        self._poll_seconds = poll_seconds
        self._resume = resume
        self._watched: dict[str, WaitingParent] = {}
        self._tasks: anyio.abc.TaskGroup | None = None
        self._is_listening = False

    def watches(self, turn: TurnRef) -> bool:
        """Whether the turn is being watched."""
        return turn.turn_id in self._watched

    def add(self, turn: TurnRef) -> None:
        """Watch a suspended turn."""
        if turn.turn_id not in self._watched:
            self._watched[turn.turn_id] = parent = WaitingParent(turn)
            self._start(parent)
        self._watched[turn.turn_id].notify()

    @property
    def _is_crowded(self) -> bool:
        return len(self._watched) > _MAX_FEEDS

    @contextmanager
    def watched_in(self, tasks: anyio.abc.TaskGroup) -> Iterator[None]:
        """Watch in tasks of this group until the block ends; there are none while no parent waits."""
        self._tasks = tasks
        try:
            for parent in self._watched.values():
                self._start(parent)
            yield
        finally:
            self._tasks = None

    def _start(self, parent: WaitingParent) -> None:
        if self._tasks is None:
            return
        self._tasks.start_soon(self._watch, parent)
        if self._is_crowded and not self._is_listening:
            self._is_listening = True
            self._tasks.start_soon(self._listen)

    # ------------------------------------------------------------ each parent

    async def _watch(self, parent: WaitingParent) -> None:
        """Watch one parent until it is resumed."""
        pause = Backoff(0.1, self._poll_seconds)
        try:
            while parent.is_waiting or parent.has_new_events:
                try:
                    await self._read(parent, pause)
                    if parent.is_waiting and parent.is_ready:
                        await self._resume(parent.turn)
                        parent.notify()  # its feed shows by now that it was resumed, or waits again
                except KernelTrouble as trouble:  # its database may be back without its last events
                    parent.start_over()
                    await anyio.sleep(pause.next_seconds(trouble))
                    parent.notify()
        except CommonGroundError as trouble:  # the resumer's scan finds it again
            logger.warning("%s stays suspended, it cannot be watched: %s", parent.turn, trouble)
        finally:
            del self._watched[parent.turn.turn_id]

    async def _read(self, parent: WaitingParent, pause: Backoff) -> None:
        """Wait for new events of a parent and read them."""
        if self._is_crowded or parent.has_new_events:
            await parent.wait_for_notice()
            async with background_calls(self._kernel):
                await parent.read_feed(self._kernel, 0)
            pause.reset()
            return
        asked_at = monotonic()
        if await parent.read_feed(self._kernel, _WAIT_SECONDS):
            pause.reset()
        elif monotonic() - asked_at < _IMMEDIATE_SECONDS:  # the kernel cannot wait
            await anyio.sleep(pause.next_seconds())

    # ------------------------------------------------------------ all of them

    async def _listen(self) -> None:
        """Follow the project's feed and notify the parents it is about, while they are too many to poll."""
        pause = Backoff(0.1, self._poll_seconds)
        after = await self._read_until(pause)
        self._notify(self._watched)
        while self._is_crowded:
            asked_at = monotonic()
            try:
                page = await self._kernel.projections.feed(
                    self._project_id, after_ledger_seq=after, limit=_FEED_PAGE, wait_seconds=_WAIT_SECONDS
                )
            except CommonGroundError as trouble:
                await anyio.sleep(pause.next_seconds(trouble))
                continue
            after = page.next_after_ledger_seq
            notable = [event for event in page.items if event.event_type in _NOTIFYING]
            self._notify({event.subject_id for event in notable} | {event.cause_id for event in notable})
            if page.items:
                pause.reset()
            elif monotonic() - asked_at < _IMMEDIATE_SECONDS:  # the kernel cannot wait
                await anyio.sleep(pause.next_seconds())
        self._is_listening = False
        self._notify(self._watched)

    async def _read_until(self, pause: Backoff) -> int:
        """Return a recent event to follow the project's feed from: the last one that a parent has read."""
        while not (until := max((each.read_until for each in self._watched.values()), default=1)):  # noqa: ASYNC110  # for a moment
            await anyio.sleep(pause.next_seconds())
        return until

    def _notify(self, turn_ids: Iterable[str | None]) -> None:
        for turn_id in turn_ids:
            if turn_id in self._watched:
                self._watched[turn_id].notify()
