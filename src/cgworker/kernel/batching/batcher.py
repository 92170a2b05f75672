"""Batch requests: those that arrive while a statement of their operation is in flight share the next one.

A round trip and a commit cost more than the rows they carry. A busy kernel therefore gathers the requests
that arrive while a statement is in flight (`group_commit.py`). The next statement takes all of them, as
arrays, with one commit. In an idle kernel each request runs its own statement. (Measured: with four
connections, one statement at a time closed fewer turns than four statements; with sixteen it closed more.)

Each request gets its own answer. One that needs more statements, such as a refusal, delays no other.
Requests whose client disconnected are dropped from the batch. Large items get a statement of their own, so
that small ones do not wait and no statement grows too large.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from attrs import define, frozen

from cgworker.group_commit import GroupCommit
from cgworker.kernel.store.batch import Answers, Deferred

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")

Run = Callable[[str, list[Item]], Awaitable[Answers[Result]]]

_MAX_ITEMS = 100
_MAX_SHARED_BYTES = 262_144  # a larger item gets a statement of its own
_MAX_OVERLAPPING = 4


@frozen(eq=False)
class _Pending(Generic[Item, Result]):
    item: Item
    answer: asyncio.Future[Result]


@define
class Load:
    """The number of requests that a kernel is processing, of all operations."""

    count: int = 0

    @property
    def is_small(self) -> bool:
        """Whether there are so few requests that their statements may overlap."""
        return self.count <= _MAX_OVERLAPPING


class StatementBatcher(Generic[Item, Result]):
    """Runs the items of one operation; waiting items of a project share a statement.

    Args:
        run: runs items of a project in one statement; returns answers and refusals by place.
        load: the load of the kernel, shared by all operations.
    """

    def __init__(self, run: Run[Item, Result], load: Load) -> None:
        self._run = run
        self._load = load
        self._may_overlap = lambda _under_way: load.is_small
        self._projects: dict[str, GroupCommit[_Pending[Item, Result]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __call__(self, project_id: str, item: Item, *, size_bytes: int = 0) -> Result:
        """Run an item and return its answer.

        Args:
            project_id: the project of the item.
            item: the item.
            size_bytes: the approximate size of the item.

        Raises:
            CommonGroundError: the item's refusal, or the failure of its statement.
        """
        self._load.count += 1
        try:
            if self._load.is_small or size_bytes > _MAX_SHARED_BYTES:
                # What has begun is done, also if nobody waits for its answer any more.
                return await asyncio.shield(self._in_background(self._run_alone(project_id, item)))
            return await self._run_with_others(project_id, item)
        finally:
            self._load.count -= 1

    async def _run_alone(self, project_id: str, item: Item) -> Result:
        (answer,) = await self._run(project_id, [item])
        if isinstance(answer, Deferred):
            return await answer.resolve()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _run_with_others(self, project_id: str, item: Item) -> Result:
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        if (group := self._projects.get(project_id)) is None:
            group = self._projects[project_id] = GroupCommit(_MAX_ITEMS, self._may_overlap)
        group.add(_Pending(item, answer))
        if group.begin():
            self._in_background(self._run_waiting(project_id, group))
        return await answer

    async def _run_waiting(self, project_id: str, group: GroupCommit[_Pending[Item, Result]]) -> None:
        """Run one statement for the items that wait when the task begins: those that arrived together."""
        wanted = [one for one in group.take() if not one.answer.cancelled()]
        try:
            if wanted:
                await self._answer(project_id, wanted)
        finally:
            group.end()
            if group.begin():
                self._in_background(self._run_waiting(project_id, group))
            elif not group.under_way:
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

    def _in_background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it is not told as never retrieved where nobody waits any more


async def _resolve(waiting: asyncio.Future[Result], deferred: Deferred[Result]) -> None:
    try:
        _settle(waiting, await deferred.resolve())
    except Exception as trouble:
        _settle(waiting, trouble)


def _settle(waiting: asyncio.Future[Result], answer: Result | Exception) -> None:
    if waiting.done():
        return  # its client disconnected
    if isinstance(answer, Exception):
        waiting.set_exception(answer)
    else:
        waiting.set_result(answer)
