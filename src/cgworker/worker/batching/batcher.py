"""Make the calls of many tasks in batches (group commit).

`group_commit.py` decides which calls form a batch. One of the callers makes each batch for all.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar, cast

import anyio
import anyio.lowlevel
import sniffio
from attrs import define

from cgworker.group_commit import GroupCommit

Request = TypeVar("Request")
Answer = TypeVar("Answer")
Value = TypeVar("Value")

_MAX_SIZE = 200
_LEAST_SHARE = 16  # fewer calls than this are not worth a batch of their own

_LOOP_VALUES: anyio.lowlevel.RunVar[dict[Hashable, Any]] = anyio.lowlevel.RunVar("cgworker_loop_local")


@define(eq=False)
class _Call(Generic[Request, Answer]):
    """One call: taken while its batch is under way, over when it is answered or its caller was cancelled."""

    request: Request
    answer: Answer | Exception | None = None
    is_taken: bool = False
    is_over: bool = False
    _changed: anyio.Event | asyncio.Future[None] | None = None

    async def wait_for_change(self, *, on_asyncio: bool) -> None:
        """Wait until the call is answered, or may lead the next batch."""
        if on_asyncio:  # an event makes fifteen calls, and each turn waits here
            self._changed = future = asyncio.get_running_loop().create_future()
            await future
        else:
            self._changed = event = anyio.Event()
            await event.wait()

    def notify(self) -> None:
        """Wake the caller."""
        changed = self._changed
        if isinstance(changed, anyio.Event):
            changed.set()
        elif changed is not None and not changed.done():
            changed.set_result(None)

    def end(self, answer: Answer | Exception) -> None:
        """Set the answer and wake the caller."""
        self.answer, self.is_over = answer, True
        self.notify()


class CallBatcher(Generic[Request, Answer]):
    """Makes the calls of many tasks in batches. Each caller gets its own answer or error.

    If the caller that leads a batch is cancelled, only its own call is dropped. The others of the batch are
    made again, so calls must be safe to repeat.

    Args:
        make: makes the calls of a batch, and returns their answers, or exceptions to raise, in order. What
            it raises itself, every caller of the batch gets.
        gather_seconds: how long the first call of a batch waits for others; by default only until callers
            that were woken at the same time have called.
        max_under_way: the most batches under way at once; a small one does not begin beside a larger one.
    """

    def __init__(
        self,
        make: Callable[[Sequence[Request]], Awaitable[Sequence[Answer | Exception]]],
        *,
        gather_seconds: float = 0,
        max_under_way: int = 1,
    ) -> None:
        self._make = make
        self._gather_seconds = gather_seconds
        self._max_under_way = max_under_way
        self._under_way_count = 0
        self._is_on_asyncio: bool | None = None  # a batcher is used in one event loop
        self._group: GroupCommit[_Call[Request, Answer]] = GroupCommit(_MAX_SIZE, self._may_overlap)

    async def __call__(self, request: Request) -> Answer:
        """Make this call in a batch with others that wait, and return its answer or raise its exception."""
        if self._is_on_asyncio is None:
            self._is_on_asyncio = sniffio.current_async_library() == "asyncio"
        own_call: _Call[Request, Answer] = _Call(request)
        self._group.add(own_call)
        try:
            while not own_call.is_over:
                if not own_call.is_taken and self._group.begin():
                    await self._make_batch(own_call)
                else:
                    await own_call.wait_for_change(on_asyncio=self._is_on_asyncio)
        finally:
            if not own_call.is_over:
                self._drop(own_call)
        if isinstance(own_call.answer, Exception):
            raise own_call.answer
        return own_call.answer  # type: ignore[return-value]  # it is over, so it has an answer

    async def _make_batch(self, own_call: _Call[Request, Answer]) -> None:
        """Make the waiting calls, this one among them; none if another batch has taken it meanwhile."""
        batch: list[_Call[Request, Answer]] = []
        try:
            await anyio.sleep(self._gather_seconds)
            if not own_call.is_taken and not own_call.is_over:
                batch = self._group.take(self._share())
            self._under_way_count += len(batch)
            if batch:
                self._wake_another()
            for call in batch:
                call.is_taken = True
            try:
                answers = await self._make([call.request for call in batch]) if batch else ()
            except Exception as failed:
                answers = [failed] * len(batch)
            for call, answer in zip(batch, answers, strict=True):
                call.end(answer)
        finally:
            self._under_way_count -= len(batch)
            unmade = [call for call in batch if not call.is_over]  # this caller was cancelled
            for call in unmade:
                call.is_taken = False
            if (first := self._group.end(unmade)) is not None:
                first.notify()  # its caller makes the next batch

    def _may_overlap(self, under_way: int) -> bool:
        """Whether a batch may begin beside others: not with fewer calls than are under way.

        Otherwise a few calls would have a batch of their own by turns with all the rest, and it costs nearly
        as much as theirs. From so many calls on, a batch is worth it in any case.
        """
        enough = min(self._under_way_count, _LEAST_SHARE)
        return under_way < self._max_under_way and self._group.waiting_count >= enough

    def _share(self) -> int:
        """Return the most calls of the next batch: its share of all that wait or are under way.

        Otherwise calls that are answered together call again together, and so nearly all would be in one
        batch, and nothing would be made while it is under way.
        """
        count = self._group.waiting_count + self._under_way_count
        return max(math.ceil(count / self._max_under_way), _LEAST_SHARE)

    def _wake_another(self) -> None:
        """Wake a caller that this batch has left, if another batch may begin."""
        first = self._group.first_waiting
        if first is not None and self._may_overlap(self._group.under_way):
            first.notify()

    def _drop(self, own_call: _Call[Request, Answer]) -> None:
        """Drop the call of a cancelled caller. If it was about to lead a batch, wake the next caller."""
        own_call.is_over = True
        if (first := self._group.drop(own_call)) is not None:
            first.notify()


def loop_local(key: Hashable, make: Callable[[], Value]) -> Value:
    """Return what all workers of this event loop share under a key, and make it at the first call.

    Args:
        key: names the value within the event loop.
        make: makes the value.
    """
    try:
        found = _LOOP_VALUES.get()
    except LookupError:
        found = {}
        _LOOP_VALUES.set(found)
    if key not in found:
        found[key] = make()
    return cast("Value", found[key])
