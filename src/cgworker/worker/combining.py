"""Calls that wait for one another, made as one: what a database calls group commit.

While a call is under way, those that come gather; when it has ended, all that wait go together. A call that
is alone goes at once, so nothing is delayed when there is little to do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar, cast

import anyio
import anyio.lowlevel
from attrs import define, field

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
Shared = TypeVar("Shared")

_MOST_AT_ONCE = 200

_SHARED: anyio.lowlevel.RunVar[dict[Hashable, Any]] = anyio.lowlevel.RunVar("cgworker_combining")


@define(eq=False)
class _Call(Generic[Asked, Answer]):
    """One call: `go_on` is set when it is answered, or when it is to lead the next group.

    It is over when it is answered, or when nobody waits for the answer any more.
    """

    asked: Asked
    go_on: anyio.Event = field(factory=anyio.Event)
    answer: Answer | Exception | None = None
    is_over: bool = False


class Combining(Generic[Asked, Answer]):
    """Makes the calls of many tasks a group at a time. Each caller gets its own answer or error.

    A caller that is cancelled takes only its own call along; the others of its group are made again, so
    what is combined must bear to be repeated.

    Args:
        make: makes the calls of a group; returns by place the answers, or the exceptions to be raised. What
            it raises, every caller of the group gets.
        gather_seconds: how long the first of a group waits for others; by default only until those that
            were woken together with it have come.
    """

    def __init__(
        self,
        make: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer | Exception]]],
        *,
        gather_seconds: float = 0,
    ) -> None:
        self._make = make
        self._gather_seconds = gather_seconds
        self._waiting: list[_Call[Asked, Answer]] = []
        self._under_way = False

    async def __call__(self, asked: Asked) -> Answer:
        """Make this call, with those that wait."""
        mine: _Call[Asked, Answer] = _Call(asked)
        self._waiting.append(mine)
        try:
            if self._under_way:
                await mine.go_on.wait()
            if not mine.is_over:
                await self._lead()
        finally:
            if not mine.is_over:
                self._withdraw(mine)
        if isinstance(mine.answer, Exception):
            raise mine.answer
        return cast("Answer", mine.answer)

    async def _lead(self) -> None:
        """Make the calls of the group that waits, this one's among them; then let another lead the next."""
        self._under_way = True
        group: list[_Call[Asked, Answer]] = []
        try:
            await anyio.sleep(self._gather_seconds)
            group, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            _answer(group, await self._made([call.asked for call in group]))
        finally:
            self._waiting = [call for call in group if not call.is_over] + self._waiting
            self._hand_on()

    async def _made(self, asked: Sequence[Asked]) -> Sequence[Answer | Exception]:
        try:
            return await self._make(asked)
        except Exception as failed:
            return [failed] * len(asked)

    def _withdraw(self, mine: _Call[Asked, Answer]) -> None:
        """It was cancelled: nobody waits for it, and if it was to lead, another does."""
        mine.is_over = True
        if mine in self._waiting:
            self._waiting.remove(mine)
        if mine.go_on.is_set():
            self._hand_on()

    def _hand_on(self) -> None:
        self._under_way = bool(self._waiting)
        if self._waiting:
            self._waiting[0].go_on.set()


def _answer(group: Sequence[_Call[Asked, Answer]], answers: Sequence[Answer | Exception]) -> None:
    for call, answer in zip(group, answers, strict=True):
        call.answer, call.is_over = answer, True
        call.go_on.set()


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
