"""Calls that wait for one another are made as one."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from cgworker.worker.combining import Combining


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
    combining = Combining(calls.make)

    async def ask(one: int) -> None:
        answers[one] = await combining(one)

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
    combining = Combining(calls.make)

    async def ask(one: int) -> None:
        try:
            answers.append(await combining(one))
        except ValueError as refused:
            answers.append(str(refused))

    async with anyio.create_task_group() as group:
        for one in (1, -2, 3):
            group.start_soon(ask, one)
    assert sorted(map(str, answers)) == ["-2", "10", "30"]


@pytest.mark.parametrize("cancelled", [1, 2, 3])
async def test_who_is_cancelled_takes_only_its_own_call_along(cancelled: int) -> None:
    """Whether it leads the group, is to lead the next, or waits: the others are answered."""
    calls = Calls()
    answers: dict[int, int] = {}
    combining = Combining(calls.make)
    scopes = {one: anyio.CancelScope() for one in (1, 2, 3)}

    async def ask(one: int) -> None:
        with scopes[one]:
            answers[one] = await combining(one)

    async with anyio.create_task_group() as group:
        for one in scopes:
            group.start_soon(ask, one)
            await anyio.wait_all_tasks_blocked()
        scopes[cancelled].cancel()
        await anyio.wait_all_tasks_blocked()
        calls.gate.set()
    assert answers == {one: one * 10 for one in scopes if one != cancelled}
    assert await combining(5) == 50  # and it goes on
