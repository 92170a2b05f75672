"""Combining what waits: requests of one verb that come while its statements are in flight run as one.

A round trip and a commit cost more than the rows they carry. So when a kernel is busy, what arrives while a
statement of its verb is in flight is gathered, and the next one takes all of it, as arrays, with one
commit. A kernel with little to do lets the statements overlap instead, and nothing waits: with four
connections one statement at a time closed fewer turns than four, with sixteen it closed more. Each request
is answered on its own: one that needs more statements, as a refusal does, keeps nobody else waiting. Who
hung up before the statement began is left out. What is large goes by itself: others would wait for it, and
there is an end to what a statement can carry.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen

from cgworker.kernel.store.batch import Answers, Deferred

Item = TypeVar("Item")
Result = TypeVar("Result")

Run = Callable[[str, list[Item]], Awaitable[Answers[Result]]]

_MAX_ITEMS = 100
_MAX_SHARED_BYTES = 262_144  # of an item that goes with others
_MAX_OVERLAPPING = 4


@frozen(eq=False)
class _Pending(Generic[Item, Result]):
    item: Item
    answer: asyncio.Future[Result]


@define(eq=False)
class _Project(Generic[Item, Result]):
    """What of one project waits, and how many statements are in flight for it."""

    waiting: deque[_Pending[Item, Result]] = field(factory=deque)
    in_flight: int = 0


@define
class Load:
    """How many requests of all verbs a kernel is at work on."""

    count: int = 0

    @property
    def is_small(self) -> bool:
        """So few that their statements may overlap."""
        return self.count <= _MAX_OVERLAPPING


class Batcher(Generic[Item, Result]):
    """One verb. Calling it runs an item, together with others of its project where some wait.

    Args:
        run: runs items of a project in one statement; answers by place, refusals included.
        load: shared with the other verbs.
    """

    def __init__(self, run: Run[Item, Result], load: Load) -> None:
        self._run = run
        self._load = load
        self._projects: dict[str, _Project[Item, Result]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, project_id: str, item: Item, *, size_bytes: int = 0) -> Result:
        """The item's answer; raises the refusal if it is one.

        Args:
            size_bytes: how large the item is, about.
        """
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        waiting = _Pending(item, answer)
        self._load.count += 1
        try:
            if size_bytes > _MAX_SHARED_BYTES:
                self._in_background(self._answer(project_id, [waiting]))
            else:
                project = self._projects.setdefault(project_id, _Project())
                project.waiting.append(waiting)
                self._start(project_id, project)
            return await answer
        finally:
            self._load.count -= 1

    def _start(self, project_id: str, project: _Project[Item, Result]) -> None:
        if not project.waiting or (project.in_flight and not self._load.is_small):
            return
        project.in_flight += 1
        self._in_background(self._run_waiting(project_id, project))

    async def _run_waiting(self, project_id: str, project: _Project[Item, Result]) -> None:
        """One statement for what waits when the task begins, which is what came in the same moment."""
        taken = [project.waiting.popleft() for _ in range(min(len(project.waiting), _MAX_ITEMS))]
        wanted = [one for one in taken if not one.answer.cancelled()]
        try:
            if wanted:
                await self._answer(project_id, wanted)
        finally:
            project.in_flight -= 1
            self._start(project_id, project)
            if not project.in_flight:
                del self._projects[project_id]

    async def _answer(self, project_id: str, wanted: list[_Pending[Item, Result]]) -> None:
        try:
            answers: list[Any] = await self._run(project_id, [one.item for one in wanted])
        except Exception as trouble:
            answers = [trouble] * len(wanted)
        for one, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, Deferred):
                self._in_background(_resolve(one.answer, answer))
            else:
                _settle(one.answer, answer)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _resolve(waiting: asyncio.Future[Result], deferred: Deferred[Result]) -> None:
    try:
        _settle(waiting, await deferred.resolve())
    except Exception as trouble:
        _settle(waiting, trouble)


def _settle(waiting: asyncio.Future[Result], answer: Result | Exception) -> None:
    if waiting.done():
        return  # its client hung up
    if isinstance(answer, Exception):
        waiting.set_exception(answer)
    else:
        waiting.set_result(answer)
