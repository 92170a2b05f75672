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
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Generic, TypeVar

from attrs import define, frozen

from cgworker.group_commit import GroupCommit
from cgworker.kernel.long_poll.in_flight_keys import InFlightKeys
from cgworker.kernel.long_poll.parked_claims import ParkedClaims
from cgworker.kernel.store.batch import Answers, Deferred
from cgworker.kernel.store.callers import Caller, PresentedCredential, identify
from cgworker.kernel.store.claims.append import Append, append_records
from cgworker.kernel.store.claims.claim import Claimed, claim_turns
from cgworker.kernel.store.claims.dispatch import dispatch_turns
from cgworker.kernel.store.claims.fence import Fenced
from cgworker.kernel.store.claims.finish import Settled, finish_turns
from cgworker.kernel.store.claims.finish_and_claim import (
    FinishAndClaim,
    FinishedAndClaimed,
    finish_and_claim_turns,
)
from cgworker.kernel.store.claims.reclaim import ClaimRequest
from cgworker.kernel.store.claims.renew import renew_claims
from cgworker.kernel.store.claims.replay import Dispatched, DispatchRequest
from cgworker.kernel.store.claims.suspend import suspend_turns
from cgworker.kernel.store.postgres.database import Database
from cgworker.wire.claims import Renewal
from cgworker.wire.refs import CardBoxRef
from cgworker.wire.turns import Finish, Suspend

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


class StatementBatcher(Generic[Item, Result]):
    """Runs the items of one operation; waiting items of a project share a statement.

    Args:
        run: runs items of a project in one statement; returns answers and refusals by place.
        load: the load of the kernel, shared by all operations.
    """

    def __init__(self, run: Run[Item, Result], load: Load) -> None:
        self._run = run
        self._load = load
        self._may_overlap = lambda _under_way: load.count <= _MAX_OVERLAPPING
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
            if self._load.count <= _MAX_OVERLAPPING or size_bytes > _MAX_SHARED_BYTES:
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
        task = asyncio.get_running_loop().create_task(work)
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


class BatchedOperations:
    """The frequent operations of one kernel, each with a batcher.

    Each takes a project and an item, and returns or raises the answer.

    Args:
        database: where their statements run.
        lease: the length of a lease.

    Attributes:
        load: the load of the kernel, shared by all batchers.
        parked: the waiting claims, to which a dispatch can hand its turn.
    """

    def __init__(self, database: Database, lease: timedelta) -> None:
        load = Load()
        self._database = database
        self._lease = lease
        self._keys = InFlightKeys()
        self.load: Load = load
        self.parked: ParkedClaims = ParkedClaims(self._keys)
        self.identify: StatementBatcher[PresentedCredential, Caller] = StatementBatcher(self._identify, load)
        self.dispatch: StatementBatcher[DispatchRequest, Dispatched] = StatementBatcher(
            self._dispatch_or_hand_over, load
        )
        self.claim: StatementBatcher[ClaimRequest, Claimed | None] = StatementBatcher(self.claim_many, load)
        self.renew: StatementBatcher[Fenced[None], Renewal] = StatementBatcher(
            partial(renew_claims, database, lease=lease), load
        )
        self.append: StatementBatcher[Append, CardBoxRef] = StatementBatcher(
            partial(append_records, database), load
        )
        self.finish: StatementBatcher[Fenced[Finish], Settled] = StatementBatcher(
            partial(finish_turns, database), load
        )
        self.suspend: StatementBatcher[Fenced[Suspend], Settled] = StatementBatcher(
            partial(suspend_turns, database), load
        )

    async def _identify(self, _: str, bearers: list[PresentedCredential]) -> Answers[Caller]:
        return [*await identify(self._database, bearers)]

    async def claim_many(self, project_id: str, claims: Sequence[ClaimRequest]) -> Answers[Claimed | None]:
        """Claim turns as `claim_turns` does; a repeat of a claim in flight waits for the first one."""
        await self._keys.wait_for(claims)
        with self._keys.holding(claims):
            return await claim_turns(self._database, project_id, claims, lease=self._lease)

    async def finish_and_claim_many(
        self, project_id: str, items: Sequence[FinishAndClaim]
    ) -> list[FinishedAndClaimed | None]:
        """Finish turns and claim the next ones, as `finish_and_claim_turns` and `claim_many` do."""
        claims = [item.claim for item in items]
        await self._keys.wait_for(claims)
        with self._keys.holding(claims):
            return await finish_and_claim_turns(self._database, project_id, items, lease=self._lease)

    async def _dispatch_or_hand_over(
        self, project_id: str, dispatches: list[DispatchRequest]
    ) -> Answers[Dispatched]:
        """Dispatch the turns; hand a single one over to a claim that waits for it.

        Several dispatches share a statement only in a busy kernel: there the turns are queued.
        """
        agent = dispatches[0].request.target_agent
        if len(dispatches) > 1 or agent not in self.parked.by_agent or dispatches[0].order.is_timed:
            return await dispatch_turns(self._database, project_id, dispatches, lease=self._lease)
        with self.parked.offering(agent) as waiting:
            return await dispatch_turns(
                self._database, project_id, dispatches, lease=self._lease, waiting=waiting
            )
