"""Make calls in batches, as a database does with group commit.

While one batch is under way, new calls gather; when it has ended, all waiting calls form the next batch. A
call that comes while none is under way goes at once, so batching delays nothing under a light load.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar, cast

import anyio
import anyio.lowlevel
from attrs import define

Request = TypeVar("Request")
Answer = TypeVar("Answer")
Value = TypeVar("Value")

_MAX_GROUP_SIZE = 200

_LOOP_VALUES: anyio.lowlevel.RunVar[dict[Hashable, Any]] = anyio.lowlevel.RunVar("cgworker_combining")


@define(eq=False)
class _Call(Generic[Request, Answer]):
    """One call: taken while its batch is under way, over when it is answered or its caller was cancelled."""

    request: Request
    answer: Answer | Exception | None = None
    is_taken: bool = False
    is_over: bool = False
    _changed: anyio.Event | None = None

    async def wait_for_change(self) -> None:
        """Wait until the call is answered, or may lead the next batch."""
        self._changed = anyio.Event()
        await self._changed.wait()

    def notify(self) -> None:
        """Wake the caller."""
        if self._changed is not None:
            self._changed.set()

    def end(self, answer: Answer | Exception) -> None:
        """Set the answer and wake the caller."""
        self.answer, self.is_over = answer, True
        self.notify()


class Batcher(Generic[Request, Answer]):
    """Makes the calls of many tasks in batches. Each caller gets its own answer or error.

    If the caller that leads a batch is cancelled, only its own call is dropped. The others of the batch are
    made again, so calls must be safe to repeat.

    Args:
        make: makes the calls of a batch, and returns their answers, or exceptions to raise, in order. What
            it raises itself, every caller of the batch gets.
        gather_seconds: how long the first call of a batch waits for others; by default only until callers
            that were woken at the same time have called.
        max_groups: the most batches under way at once.
    """

    def __init__(
        self,
        make: Callable[[Sequence[Request]], Awaitable[Sequence[Answer | Exception]]],
        *,
        gather_seconds: float = 0,
        max_groups: int = 1,
    ) -> None:
        self._make = make
        self._gather_seconds = gather_seconds
        self._max_groups = max_groups
        self._waiting: list[_Call[Request, Answer]] = []
        self._group_count = 0

    async def __call__(self, request: Request) -> Answer:
        """Make this call in a batch with others that wait, and return its answer or raise its exception."""
        mine: _Call[Request, Answer] = _Call(request)
        self._waiting.append(mine)
        try:
            while not mine.is_over:
                if mine.is_taken or self._group_count >= self._max_groups:
                    await mine.wait_for_change()
                else:
                    await self._make_group(mine)
        finally:
            if not mine.is_over:
                self._drop(mine)
        if isinstance(mine.answer, Exception):
            raise mine.answer
        return cast("Answer", mine.answer)

    async def _make_group(self, mine: _Call[Request, Answer]) -> None:
        """Make the waiting calls, this one among them; none if another batch has taken it meanwhile."""
        self._group_count += 1
        group: list[_Call[Request, Answer]] = []
        try:
            await anyio.sleep(self._gather_seconds)
            group = [] if mine.is_taken or mine.is_over else self._take_group()
            for call, answer in zip(
                group, await self._answers_of([call.request for call in group]), strict=True
            ):
                call.end(answer)
        finally:
            self._group_count -= 1
            self._put_back([call for call in group if not call.is_over])
            self._wake_next()

    def _take_group(self) -> list[_Call[Request, Answer]]:
        group, self._waiting = self._waiting[:_MAX_GROUP_SIZE], self._waiting[_MAX_GROUP_SIZE:]
        for call in group:
            call.is_taken = True
        return group

    async def _answers_of(self, request: Sequence[Request]) -> Sequence[Answer | Exception]:
        try:
            return await self._make(request) if request else ()
        except Exception as failed:
            return [failed] * len(request)

    def _put_back(self, calls: list[_Call[Request, Answer]]) -> None:
        """Queue calls again, before all others, because the caller that led their batch was cancelled."""
        for call in calls:
            call.is_taken = False
        self._waiting = calls + self._waiting

    def _drop(self, mine: _Call[Request, Answer]) -> None:
        """Drop the call of a cancelled caller. If it was about to lead a batch, wake the next caller."""
        mine.is_over = True
        if mine in self._waiting:
            self._waiting.remove(mine)
        self._wake_next()

    def _wake_next(self) -> None:
        """Wake the caller that has waited longest: it leads the next batch if one may begin."""
        if self._waiting:
            self._waiting[0].notify()


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
