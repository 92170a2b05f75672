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

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
Shared = TypeVar("Shared")

_MOST_AT_ONCE = 200

_SHARED: anyio.lowlevel.RunVar[dict[Hashable, Any]] = anyio.lowlevel.RunVar("cgworker_combining")


@define(eq=False)
class _Call(Generic[Asked, Answer]):
    """One call: taken while it is made, over when it is answered or nobody waits for the answer."""

    asked: Asked
    answer: Answer | Exception | None = None
    is_taken: bool = False
    is_over: bool = False
    _news: anyio.Event | None = None

    async def wait_for_news(self) -> None:
        """Until it is answered, or may be made."""
        self._news = anyio.Event()
        await self._news.wait()

    def tell(self) -> None:
        """There is news."""
        if self._news is not None:
            self._news.set()

    def end(self, answer: Answer | Exception) -> None:
        """It is answered."""
        self.answer, self.is_over = answer, True
        self.tell()


class Batcher(Generic[Asked, Answer]):
    """Makes the calls of many tasks a group at a time. Each caller gets its own answer or error.

    A caller that is cancelled takes only its own call along; the others of its group are made again, so
    what is combined must bear to be repeated.

    Args:
        make: makes the calls of a group; returns by place the answers, or the exceptions to be raised. What
            it raises, every caller of the group gets.
        gather_seconds: how long the first of a group waits for others; by default only until those that
            were woken together with it have come.
        most_groups: how many groups are made at once.
    """

    def __init__(
        self,
        make: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer | Exception]]],
        *,
        gather_seconds: float = 0,
        most_groups: int = 1,
    ) -> None:
        self._make = make
        self._gather_seconds = gather_seconds
        self._most_groups = most_groups
        self._waiting: list[_Call[Asked, Answer]] = []
        self._group_count = 0

    async def __call__(self, asked: Asked) -> Answer:
        """Make this call, with those that wait."""
        mine: _Call[Asked, Answer] = _Call(asked)
        self._waiting.append(mine)
        try:
            while not mine.is_over:
                if mine.is_taken or self._group_count >= self._most_groups:
                    await mine.wait_for_news()
                else:
                    await self._make_group(mine)
        finally:
            if not mine.is_over:
                self._withdraw(mine)
        if isinstance(mine.answer, Exception):
            raise mine.answer
        return cast("Answer", mine.answer)

    async def _make_group(self, mine: _Call[Asked, Answer]) -> None:
        """Make the calls that wait by then, this one's among them; if another group has taken it, nothing."""
        self._group_count += 1
        group: list[_Call[Asked, Answer]] = []
        try:
            await anyio.sleep(self._gather_seconds)
            group = [] if mine.is_taken or mine.is_over else self._take_group()
            for call, answer in zip(group, await self._made([call.asked for call in group]), strict=True):
                call.end(answer)
        finally:
            self._group_count -= 1
            self._put_back([call for call in group if not call.is_over])
            self._go_on()

    def _take_group(self) -> list[_Call[Asked, Answer]]:
        group, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
        for call in group:
            call.is_taken = True
        return group

    async def _made(self, asked: Sequence[Asked]) -> Sequence[Answer | Exception]:
        try:
            return await self._make(asked) if asked else ()
        except Exception as failed:
            return [failed] * len(asked)

    def _put_back(self, calls: list[_Call[Asked, Answer]]) -> None:
        """Who made them was cancelled: they are the first to be made again."""
        for call in calls:
            call.is_taken = False
        self._waiting = calls + self._waiting

    def _withdraw(self, mine: _Call[Asked, Answer]) -> None:
        """It was cancelled: nobody waits for it; if it was told to go on, another is."""
        mine.is_over = True
        if mine in self._waiting:
            self._waiting.remove(mine)
        self._go_on()

    def _go_on(self) -> None:
        """There is room for a group, or may be: whose call has waited longest makes it."""
        if self._waiting:
            self._waiting[0].tell()


def shared(key: Hashable, make: Callable[[], Shared]) -> Shared:
    """What all workers of this event loop share under a key; made when it is first asked for."""
    try:
        found = _SHARED.get()
    except LookupError:
        found = {}
        _SHARED.set(found)
    if key not in found:
        found[key] = make()
    return cast("Shared", found[key])
