"""Calls that wait for one another, made as one: what a database calls group commit.

While a call is under way, those that come gather; when it has ended, all that wait go together. A call that
is alone goes at once, so nothing is delayed when there is little to do.
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
    """One call: taken while it is made, over when it is answered or nobody waits for the answer."""

    request: Request
    answer: Answer | Exception | None = None
    is_taken: bool = False
    is_over: bool = False
    _changed: anyio.Event | None = None

    async def wait_for_change(self) -> None:
        """Until it is answered, or may be made."""
        self._changed = anyio.Event()
        await self._changed.wait()

    def notify(self) -> None:
        """There is news."""
        if self._changed is not None:
            self._changed.set()

    def end(self, answer: Answer | Exception) -> None:
        """It is answered."""
        self.answer, self.is_over = answer, True
        self.notify()


class Batcher(Generic[Request, Answer]):
    """Makes the calls of many tasks a group at a time. Each caller gets its own answer or error.

    A caller that is cancelled takes only its own call along; the others of its group are made again, so
    what is combined must bear to be repeated.

    Args:
        make: makes the calls of a group; returns by place the answers, or the exceptions to be raised. What
            it raises, every caller of the group gets.
        gather_seconds: how long the first of a group waits for others; by default only until those that
            were woken together with it have come.
        max_groups: how many groups are made at once.
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
        """Make this call, with those that wait."""
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
        """Make the calls that wait by then, this one's among them; if another group has taken it, nothing."""
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
        """Who made them was cancelled: they are the first to be made again."""
        for call in calls:
            call.is_taken = False
        self._waiting = calls + self._waiting

    def _drop(self, mine: _Call[Request, Answer]) -> None:
        """It was cancelled: nobody waits for it; if it was told to go on, another is."""
        mine.is_over = True
        if mine in self._waiting:
            self._waiting.remove(mine)
        self._wake_next()

    def _wake_next(self) -> None:
        """There is room for a group, or may be: whose call has waited longest makes it."""
        if self._waiting:
            self._waiting[0].notify()


def loop_local(key: Hashable, make: Callable[[], Value]) -> Value:
    """What all workers of this event loop share under a key; made when it is first request for."""
    try:
        found = _LOOP_VALUES.get()
    except LookupError:
        found = {}
        _LOOP_VALUES.set(found)
    if key not in found:
        found[key] = make()
    return cast("Value", found[key])
