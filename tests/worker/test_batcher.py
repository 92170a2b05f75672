"""Calls that wait for one another are made as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import anyio
import pytest

from cgworker.testing import virtual_time
from cgworker.worker.batching.batcher import CallBatcher


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """In virtual time, so that a loaded machine ends no wait before its time."""
    return virtual_time(request.param)


class Calls:
    """What is made together, held up until `gate` is set."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.gate = anyio.Event()
        self.begun = anyio.Event()

    async def make(self, asked: Sequence[int]) -> Sequence[int | Exception]:
        self.groups.append(list(asked))
        self.begun.set()
        await self.gate.wait()
        return [ValueError(str(one)) if one < 0 else one * 10 for one in asked]


async def test_what_comes_while_a_call_is_under_way_goes_together() -> None:
    """The first goes at once, alone; all others are the next group; each gets its own answer."""
    calls = Calls()
    answers: dict[int, int] = {}
    batcher = CallBatcher(calls.make)

    async def ask(one: int) -> None:
        answers[one] = await batcher(one)

    async with anyio.create_task_group() as group:
        group.start_soon(ask, 1)
        await calls.begun.wait()
        for one in (2, 3, 4):
            group.start_soon(ask, one)
        await anyio.wait_all_tasks_blocked()
        assert calls.groups == [[1]]
        calls.gate.set()
    assert sorted(map(sorted, calls.groups)) == [[1], [2, 3, 4]]
    assert answers == {1: 10, 2: 20, 3: 30, 4: 40}


async def test_a_bad_call_harms_no_neighbour() -> None:
    """What is an exception is raised at its own caller only."""
    calls = Calls()
    answers: list[object] = []
    calls.gate.set()
    batcher = CallBatcher(calls.make)

    async def ask(one: int) -> None:
        try:
            answers.append(await batcher(one))
        except ValueError as refused:
            answers.append(str(refused))

    async with anyio.create_task_group() as group:
        for one in (1, -2, 3):
            group.start_soon(ask, one)
    assert sorted(map(str, answers)) == ["-2", "10", "30"]


async def test_as_many_groups_as_allowed_are_made_at_once_and_each_call_once() -> None:
    """What comes while there is no room waits for the first that ends; nothing is made twice."""
    calls = Calls()
    answers: dict[int, int] = {}
    batcher = CallBatcher(calls.make, max_under_way=2)

    async def ask(one: int) -> None:
        answers[one] = await batcher(one)

    async with anyio.create_task_group() as group:
        for one in range(1, 6):
            group.start_soon(ask, one)
            if one < 3:
                await anyio.wait_all_tasks_blocked()
        await anyio.wait_all_tasks_blocked()
        assert calls.groups == [[1], [2]]
        calls.gate.set()
    assert sorted(one for group in calls.groups for one in group) == [1, 2, 3, 4, 5]
    assert answers == {one: one * 10 for one in range(1, 6)}


async def sizes_of_groups(callers: int, first: int, seconds: Callable[[int], float]) -> list[int]:
    """The sizes of the groups of callers with ten calls each, one after the other; some are first.

    A group takes so many seconds of the tests' clock, by its size.
    """
    sizes: list[int] = []

    async def make(asked: Sequence[int]) -> Sequence[int]:
        sizes.append(len(asked))
        await anyio.sleep(seconds(len(asked)))
        return asked

    batcher = CallBatcher(make, max_under_way=2)

    async def ask(one: int) -> None:
        for _ in range(10):
            await batcher(one)

    async with anyio.create_task_group() as group:
        for one in range(callers):
            group.start_soon(ask, one)
            if one == first:
                await anyio.wait_all_tasks_blocked()
    assert sum(sizes) == callers * 10
    return sizes


async def test_no_group_has_nearly_all_where_two_may_be_made_at_once() -> None:
    """Though callers that are answered together call again together, and a large group takes longer."""
    assert max(await sizes_of_groups(100, 8, float)) <= 50


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio runs in any order what it wakes at one moment
async def test_a_few_calls_have_no_group_beside_many() -> None:
    """They wait for those that are under way, and then go with them: a group costs nearly the same."""
    sizes = await sizes_of_groups(16, 12, lambda _: 1.0)
    assert len(sizes) <= 12, sizes


async def test_who_is_answered_makes_no_group_of_others() -> None:
    """Another group took its call while it gathered: it goes on, and somebody else makes theirs."""
    gate = anyio.Event()
    groups: list[Sequence[int]] = []

    async def make(asked: Sequence[int]) -> Sequence[int]:
        groups.append(asked)
        if 3 in asked:
            await gate.wait()
        return asked

    batcher = CallBatcher(make, gather_seconds=0.25, max_under_way=2)
    ended: list[int] = []

    async def ask(one: int) -> None:
        await batcher(one)
        ended.append(one)

    async with anyio.create_task_group() as group:
        group.start_soon(ask, 1)
        await anyio.sleep(0.15)
        group.start_soon(ask, 2)  # gathers, too, until the first takes its call
        await anyio.sleep(0.15)
        group.start_soon(ask, 3)
        with anyio.fail_after(60):
            while sorted(ended) != [1, 2]:  # noqa: ASYNC110  # nobody tells
                await anyio.sleep(0.01)
        gate.set()
    assert groups == [[1, 2], [3]]


@pytest.mark.parametrize("max_under_way", [1, 2, 3])
async def test_callers_that_come_and_go_are_each_answered_once(max_under_way: int) -> None:
    """In any order, some cancelled while they wait or lead: the others get their own answers."""
    made: Counter[int] = Counter()
    answers: dict[int, int] = {}
    luck = Random(max_under_way)

    async def make(asked: Sequence[int]) -> Sequence[int | Exception]:
        made.update(asked)
        await anyio.sleep(luck.random() / 200)
        return [one * 10 for one in asked]

    batcher = CallBatcher(make, max_under_way=max_under_way)

    async def ask(one: int) -> None:
        await anyio.sleep(luck.random() / 20)
        with anyio.move_on_after(0.001 if one % 5 == 0 else 10):
            answers[one] = await batcher(one)

    async with anyio.create_task_group() as group:
        for one in range(500):
            group.start_soon(ask, one)
    patient = {one: one * 10 for one in range(500) if one % 5}
    assert {one: answer for one, answer in answers.items() if one % 5} == patient
    assert made.keys() >= patient.keys()


@pytest.mark.parametrize("cancelled", [1, 2, 3])
async def test_who_is_cancelled_takes_only_its_own_call_along(cancelled: int) -> None:
    """Whether it leads the group, is to lead the next, or waits: the others are answered."""
    calls = Calls()
    answers: dict[int, int] = {}
    batcher = CallBatcher(calls.make)
    scopes = {one: anyio.CancelScope() for one in (1, 2, 3)}

    async def ask(one: int) -> None:
        with scopes[one]:
            answers[one] = await batcher(one)

    async with anyio.create_task_group() as group:
        for one in scopes:
            group.start_soon(ask, one)
            await anyio.wait_all_tasks_blocked()
        scopes[cancelled].cancel()
        await anyio.wait_all_tasks_blocked()
        calls.gate.set()
    assert answers == {one: one * 10 for one in scopes if one != cancelled}
    assert await batcher(5) == 50  # and it goes on
