"""A turn's records and events, read and appended to by several tasks of its handler."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from cgworker.durable.journal import Journal
from cgworker.lease import Lease, monotonic
from tests.kernels import NewProject


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
async def journal(new_project: NewProject) -> AsyncIterator[Journal]:
    """Of a running turn with more records than a page has."""
    async with new_project() as kernel, await kernel.agent("desk") as desk:
        assert desk.agent is not None
        turn = await kernel.dispatch("desk", "begin")
        claimed = (await desk.claims.claim(desk.agent)).claimed
        assert claimed is not None
        for number in range(5):
            await desk.turns.append(claimed.claim, number)
        context = await desk.turns.context(turn, limit=2)
        yield Journal(desk, Lease(claimed.claim, monotonic(), 30), context, page_size=2, more_records=True)


async def test_tasks_that_read_at_once_see_everything_once(journal: Journal) -> None:
    """Neither a record nor an event is there twice because two asked for the same page."""
    found: list[list[Any]] = []

    async def read() -> None:
        found.append([item.payload for item in await journal.records()])
        found.append([event.event_type for event in await journal.events()])

    async with anyio.create_task_group() as readers:
        for _ in range(4):
            readers.start_soon(read)
    records = ["begin", *range(5)]
    events = ["turn.spawned", "turn.bootstrap_recorded", "turn.claimed", *["turn.progress_appended"] * 5]
    assert sorted(found, key=str) == sorted([records, events] * 4, key=str)


async def test_a_record_appended_while_others_read_is_read_afterwards(journal: Journal) -> None:
    """A page that was asked for before it was there must not be taken for the last one."""
    async with anyio.create_task_group() as tasks:
        for number in range(5, 10):
            tasks.start_soon(journal.append, number, "progress")
            tasks.start_soon(journal.records)
    assert sorted(item.payload for item in (await journal.records())[1:]) == list(range(10))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_no_input_is_taken_for_a_record_of_an_earlier_attempt(new_project: NewProject) -> None:
    """It may look like one; and most turns have no other record, so that nothing has to be looked at."""
    async with new_project() as kernel, await kernel.agent("desk") as desk:
        assert desk.agent is not None
        turn = await kernel.dispatch("desk", "begin")
        claimed = (await desk.claims.claim(desk.agent)).claimed
        assert claimed is not None

        async def found() -> bool:
            context = await desk.turns.context(turn, limit=9)
            lease = Lease(claimed.claim, monotonic(), 30)
            return Journal(desk, lease, context, page_size=9, more_records=False).may_hold(lambda _: True)

        assert not await found()
        await desk.turns.append(claimed.claim, "a step")
        assert await found()
