"""Waiting readers of a project's feed are answered in rounds, and each gets exactly what it may and wants."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from cgworker.errors import KernelOverloaded
from cgworker.kernel.app import Kernel, open_kernel
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.long_poll import feed_rounds
from cgworker.kernel.store.ledger import project_events
from cgworker.kernel.store.postgres.database import Database
from cgworker.wire.converter import dumps, loads, structure_answer
from cgworker.wire.projections import EventPage
from tests.kernel.parked import QUICK_SECONDS, WAIT, until
from tests.kernel.project import Agent, Project, client_of

FEED = "projection/feed"
READ = "cgworker.kernel.store.projections.project_events"
EVENTS = 2  # of a dispatch


@pytest.fixture
async def requester(project: Project) -> Agent:
    return await project.agent("requester")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The project of each read of a feed."""
    found: list[str] = []
    read = project_events

    async def counting(database: Database, project_id: str, **place: int) -> Any:
        found.append(project_id)
        return await read(database, project_id, **place)

    monkeypatch.setattr(READ, counting)
    return found


@asynccontextmanager
async def readers(
    kernel: Kernel, *asked: tuple[Agent, dict[str, int]]
) -> AsyncIterator[list[asyncio.Task[httpx.Response]]]:
    """Readers that have found nothing and wait; each asks as an agent, with a query."""
    before = kernel.notifier.waiting_count
    tasks = [asyncio.create_task(agent.ask("GET", FEED, None, WAIT, **query)) for agent, query in asked]
    await until(lambda: kernel.notifier.waiting_count == before + len(asked))
    await until(lambda: not kernel.database.used_count)
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def answers(tasks: list[asyncio.Task[httpx.Response]]) -> list[httpx.Response]:
    with anyio.fail_after(QUICK_SECONDS):
        return [await task for task in tasks]


async def end_of_feed(agent: Agent) -> int:
    return int((await agent.get(FEED))["next_after_ledger_seq"])


async def test_readers_at_one_place_share_a_read(kernel: Kernel, requester: Agent, reads: list[str]) -> None:
    """One event for fifty readers is read and written once or twice, not fifty times."""
    after = await end_of_feed(requester)
    async with readers(kernel, *[(requester, {"after_ledger_seq": after})] * 50) as tasks:
        reads.clear()
        await requester.dispatch(requester)
        bodies = {answer.content for answer in await answers(tasks)}
    assert len(bodies) <= len(reads) <= 3
    assert all(loads(body)["items"][0]["ledger_seq"] == after + 1 for body in bodies)


async def test_a_page_is_written_as_its_type_is(requester: Agent) -> None:
    """The fast way that a feed is written gives what the wire type gives."""
    await requester.dispatch(requester)
    await requester.finish(await requester.claim(), final_payload="done")
    await requester.stop(await requester.dispatch(requester), note="enough")
    body = (await requester.ask("GET", FEED)).content
    assert len(loads(body)["items"]) > 5
    assert dumps(structure_answer(EventPage, loads(body))) == body


async def test_each_reader_gets_what_follows_its_place(kernel: Kernel, requester: Agent) -> None:
    """Cursors and limits of readers in one round stay their own."""
    after = await end_of_feed(requester)
    asked = [(place, limit) for place in (after, after + 1) for limit in (1, 500)]
    queries = [(requester, {"after_ledger_seq": place, "limit": limit}) for place, limit in asked]
    async with readers(kernel, *queries) as tasks:
        await asyncio.gather(*(requester.dispatch(requester) for _ in range(3)))
        pages = [answer.json() for answer in await answers(tasks)]
    for (place, limit), page in zip(asked, pages, strict=True):
        found = [event["ledger_seq"] for event in page["items"]]
        assert found == list(range(place + 1, place + 1 + len(found)))
        assert page["limit"] == limit >= len(found) >= 1
        assert page["next_after_ledger_seq"] == found[-1]


async def test_who_lost_its_credential_is_refused_and_the_others_are_answered(
    kernel: Kernel, project: Project, requester: Agent
) -> None:
    """A shared page reaches only those who may read it."""
    query = {"after_ledger_seq": await end_of_feed(requester)}
    gone = await project.agent("gone")
    query = {"after_ledger_seq": await end_of_feed(requester)}
    async with readers(kernel, (gone, query), (requester, query)) as tasks:
        await kernel.database.execute(
            "update cg_credentials set status = 'revoked', revoked_at = now() "
            "where project_id = $1 and agent_id = 'gone'",
            project.id,
        )
        await requester.dispatch(requester)
        statuses = [answer.status_code for answer in await answers(tasks)]
    assert statuses == [403, 200]


async def test_another_project_s_events_answer_nobody(
    kernel: Kernel, client: httpx.AsyncClient, requester: Agent, reads: list[str]
) -> None:
    """Its readers are not even looked at, and a foreigner is refused before it waits."""
    stranger = await Project(kernel, client).agent("stranger")
    own = {"after_ledger_seq": await end_of_feed(stranger)}
    mine = {"after_ledger_seq": await end_of_feed(requester)}
    refused = await stranger.project.client.get(
        f"/v3r1/projects/{requester.project.id}/{FEED}", headers={**stranger.headers, **WAIT}
    )
    assert refused.status_code == 403
    async with readers(kernel, (stranger, own), (requester, mine)) as tasks:
        reads.clear()
        await requester.dispatch(requester)
        await answers(tasks[1:])
        assert not tasks[0].done()
    assert set(reads) == {requester.project.id}


async def test_readers_of_a_busy_feed_miss_nothing_and_are_answered_in_rounds(
    requester: Agent, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many events come, a round has its pause; and every reader sees each event once, in order."""
    pause = 0.05
    for name in ("_PAUSE_SECONDS", "_LAGGING_PAUSE_SECONDS"):
        monkeypatch.setattr(feed_rounds, name, pause / 4)
    after, turn_count, begun = await end_of_feed(requester), 40, time.monotonic()
    end = after + EVENTS * turn_count

    async def follow() -> list[int]:
        seen, place = list[int](), after
        while place < end:
            page = await requester.get(FEED, WAIT, after_ledger_seq=place, limit=17)
            seen += [event["ledger_seq"] for event in page["items"]]
            place = page["next_after_ledger_seq"]
        return seen

    reads.clear()
    with anyio.fail_after(60):
        async with asyncio.TaskGroup() as group:
            following = [group.create_task(follow()) for _ in range(4)]
            for _ in range(turn_count):
                await requester.dispatch(requester)
    assert [task.result()[: end - after] for task in following] == [list(range(after + 1, end + 1))] * 4
    rounds = math.ceil((time.monotonic() - begun) / (pause / 4))
    assert len(reads) <= 4 * rounds


async def test_a_wait_that_ends_in_a_pause_gets_what_there_is(
    kernel: Kernel, requester: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No reader goes away empty because others were answered just before."""
    for name in ("_PAUSE_SECONDS", "_MAX_PAUSE_SECONDS"):
        monkeypatch.setattr(feed_rounds, name, 3600.0)
    after = await end_of_feed(requester)
    async with readers(kernel, *[(requester, {"after_ledger_seq": after})] * 2) as tasks:
        await requester.dispatch(requester)
        answer = await requester.get(FEED, {"Prefer": "wait=1"}, after_ledger_seq=after)
        assert len(answer["items"]) == EVENTS
        assert not any(task.done() for task in tasks)


async def test_a_read_that_fails_is_the_answer_of_all_who_wait(
    kernel: Kernel, requester: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rounds go on after it."""
    query = {"after_ledger_seq": await end_of_feed(requester)}

    async def failing(*_: object, **__: object) -> Any:
        raise KernelOverloaded("the database is away", status=503, retry_after_seconds=1.0)

    async with readers(kernel, *[(requester, query)] * 2) as tasks:
        with monkeypatch.context() as patch:
            patch.setattr(READ, failing)
            await requester.dispatch(requester)
            assert [answer.status_code for answer in await answers(tasks)] == [503, 503]
    assert len((await requester.get(FEED, WAIT, **query))["items"]) == EVENTS


@pytest.mark.parametrize("ends", ["hangs up", "kernel"])
async def test_nothing_is_left_of_readers_that_have_gone(
    config: KernelConfig, database: Database, ends: str
) -> None:
    """The last one that hangs up ends the rounds; a kernel that ends answers all."""
    async with open_kernel(config, database) as kernel, client_of(kernel) as client:
        reader = await Project(kernel, client).agent("reader")
        query = {"after_ledger_seq": await end_of_feed(reader)}
        async with readers(kernel, *[(reader, query)] * 2) as tasks:
            if ends == "kernel":
                kernel.notifier.close()
                assert [answer.json()["items"] for answer in await answers(tasks)] == [[], []]
        is_over: Callable[[], bool] = lambda: not kernel.feed_rounds._tasks  # noqa: E731, SLF001
        await until(is_over)
        assert kernel.notifier.waiting_count == 0
