"""Requests that wait are run together, and are answered as if they had been alone."""

from __future__ import annotations

import asyncio
import gc
import secrets
from typing import Any

import pytest
from attrs import evolve

from cgworker.errors import ConflictError, InvalidRequest
from cgworker.kernel.batching import Load, StatementBatcher
from cgworker.kernel.store.batch import Answers, Deferred
from cgworker.kernel.store.claims.dispatch import dispatch_turns
from cgworker.kernel.store.claims.replay import Dispatched, DispatchRequest
from cgworker.wire.converter import structure_request
from cgworker.wire.turns import Dispatch
from tests.kernel.project import Project


class Statements:
    """Stands for a verb's statement: it holds every run until it is let go."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []
        self.may_end = asyncio.Event()

    async def run(self, _: str, items: list[int]) -> Answers[int]:
        self.runs.append(items)
        await self.may_end.wait()
        return [ConflictError(f"{item} is negative") if item < 0 else item for item in items]


@pytest.fixture
def statements() -> Statements:
    return Statements()


async def settled() -> None:
    """Let everything that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_few_requests_do_not_wait_for_each_other(statements: Statements) -> None:
    """A kernel with little to do lets statements overlap."""
    batcher = StatementBatcher(statements.run, Load())
    asking = []
    for item in range(3):
        asking.append(asyncio.ensure_future(batcher("p", item)))
        await settled()
    assert statements.runs == [[0], [1], [2]]
    statements.may_end.set()
    assert await asyncio.gather(*asking) == [0, 1, 2]


async def test_what_has_begun_is_done_though_nobody_waits(statements: Statements) -> None:
    """A cancelled request may have changed something; a repeat must not come before that is known."""
    ended: list[list[int]] = []

    async def run(project_id: str, items: list[int]) -> Answers[int]:
        answers = await statements.run(project_id, items)
        ended.append(items)
        return answers

    asking = asyncio.ensure_future(StatementBatcher(run, Load())("p", 1))
    await settled()
    asking.cancel()
    statements.may_end.set()
    await settled()
    assert asking.cancelled()
    assert ended == [[1]]


async def test_trouble_that_nobody_waits_for_is_not_told() -> None:
    """asyncio tells of an exception that nobody has asked for, as if it were a fault of the kernel."""
    loop, told = asyncio.get_running_loop(), list[Any]()
    may_end = asyncio.Event()

    async def fail(*_: Any) -> Answers[int]:
        await may_end.wait()
        raise OSError("away")

    asking = asyncio.ensure_future(StatementBatcher(fail, Load())("p", 1))
    await settled()
    asking.cancel()
    may_end.set()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(context))
    try:
        await settled()
        gc.collect()
    finally:
        loop.set_exception_handler(before)
    assert told == []


async def test_an_idle_kernel_answers_in_every_way() -> None:
    """With what its statement gave, with a refusal, and with what more statements give."""

    async def answered() -> int:
        return 0

    async def run(_: str, items: list[int]) -> Answers[int]:
        if items == [2]:
            return [ConflictError("refused")]
        return [Deferred(answered)] if items == [3] else [*items]

    batcher = StatementBatcher(run, Load())
    assert await batcher("p", 1) == 1
    with pytest.raises(ConflictError, match="refused"):
        await batcher("p", 2)
    assert await batcher("p", 3) == 0


async def test_what_waits_runs_as_one(statements: Statements) -> None:
    """On a busy kernel what came while a statement was in flight is the next one, in order."""
    batcher = StatementBatcher(statements.run, Load(100))
    asking = []
    for item in range(5):
        asking.append(asyncio.ensure_future(batcher("p", item)))
        await settled()
    assert statements.runs == [[0]]
    statements.may_end.set()
    assert await asyncio.gather(*asking) == [0, 1, 2, 3, 4]
    assert statements.runs == [[0], [1, 2, 3, 4]]


async def test_projects_do_not_wait_for_each_other(statements: Statements) -> None:
    """A statement is of one project, so another's need not wait for it."""
    batcher = StatementBatcher(statements.run, Load(100))
    asking = [asyncio.ensure_future(batcher(project, 1)) for project in ("p", "q")]
    await settled()
    assert statements.runs == [[1], [1]]
    statements.may_end.set()
    assert await asyncio.gather(*asking) == [1, 1]


async def test_what_is_large_goes_by_itself(statements: Statements) -> None:
    """A statement has an end to what it can carry, and small neighbours would wait for a large one."""
    batcher = StatementBatcher(statements.run, Load(100))
    asking = [asyncio.ensure_future(batcher("p", item, size_bytes=item * 100_000)) for item in range(5)]
    await settled()
    assert sorted(statements.runs) == [[0, 1, 2], [3], [4]]
    statements.may_end.set()
    assert await asyncio.gather(*asking) == [0, 1, 2, 3, 4]


async def test_a_refusal_reaches_who_asked_for_it(statements: Statements) -> None:
    """And nobody else."""
    batcher = StatementBatcher(statements.run, Load(100))
    statements.may_end.set()
    answers = await asyncio.gather(*(batcher("p", item) for item in (1, -2, 3)), return_exceptions=True)
    assert [answer if isinstance(answer, int) else str(answer) for answer in answers] == [
        1,
        "-2 is negative",
        3,
    ]


async def test_what_needs_longer_keeps_nobody_waiting() -> None:
    """The statement's other items are answered at once."""
    may_end = asyncio.Event()

    async def think() -> int:
        await may_end.wait()
        return 0

    async def run(_: str, items: list[int]) -> Answers[int]:
        return [item or Deferred(think) for item in items]

    batcher = StatementBatcher(run, Load(100))
    slow, quick = asyncio.ensure_future(batcher("p", 0)), asyncio.ensure_future(batcher("p", 1))
    assert await quick == 1
    assert not slow.done()
    may_end.set()
    assert await slow == 0


async def test_who_has_gone_is_left_out(statements: Statements) -> None:
    """A request that was given up before its statement began changes nothing."""
    batcher = StatementBatcher(statements.run, Load(100))
    asking = []
    for item in range(4):
        asking.append(asyncio.ensure_future(batcher("p", item)))
        await settled()
    asking[2].cancel()
    statements.may_end.set()
    await asyncio.gather(*asking, return_exceptions=True)
    assert statements.runs == [[0], [1, 3]]


async def test_trouble_reaches_everybody_in_the_statement() -> None:
    """Nobody is left waiting, and the next request starts anew."""

    async def fail(_: str, items: list[int]) -> Answers[int]:
        if 0 in items:
            raise OSError("away")
        return [*items]

    batcher = StatementBatcher(fail, Load(100))
    for answer in await asyncio.gather(batcher("p", 0), batcher("p", 1), return_exceptions=True):
        assert isinstance(answer, OSError)
    assert await batcher("p", 2) == 2


async def test_what_the_database_cannot_hold_harms_no_neighbour(project: Project) -> None:
    """A statement that breaks over one item is run for each of the others."""
    agent = await project.agent("worker")
    requests = [structure_request(Dispatch, agent.dispatching(agent)) for _ in range(3)]
    requests[1] = evolve(requests[1], dispatch_key=secrets.token_hex(8000))  # past every other check
    dispatches = [DispatchRequest(request, agent.bearer) for request in requests]
    found = await dispatch_turns(
        project.kernel.database, project.id, dispatches, lease=project.kernel.config.lease
    )
    assert [type(answer) for answer in found] == [Dispatched, InvalidRequest, Dispatched]
