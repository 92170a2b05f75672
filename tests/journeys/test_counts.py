"""What a worker costs is counted, since time says little on a shared machine: requests, and wake-ups."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import httpx
import pytest

from cgworker import FolderStore, KernelClient, Turn, TurnReport, Worker, WorkerOptions
from cgworker.adapters.harness import Harness
from cgworker.client.connections import Connections
from cgworker.client.response import ResponseParser
from cgworker.events import Event
from cgworker.testing import LocalKernel
from cgworker.worker.outbox import batch_files
from tests.journeys.conftest import closed, working
from tests.kernels import NewProject

_WHEN_IT_STARTS = 5  # expired claims, capacity, results and suspended turns that were left


class Counted(httpx.AsyncBaseTransport):
    """The client's own connections.

    `asked` counts the requests by the last part of their path; `most_at_once` is how many were under way at
    one time, without those that wait for work.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.most_at_once = 0
        self._at_once = 0
        self._connections = Connections()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked[request.url.path.rpartition(":")[2]] += 1
        counts = "wait=" not in request.headers.get("prefer", "")
        self._at_once += counts
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await self._connections.handle_async_request(request)
        finally:
            self._at_once -= counts

    async def aclose(self) -> None:
        await self._connections.aclose()


@asynccontextmanager
async def desk_of(kernel: LocalKernel, *, capacity: int = 1) -> AsyncIterator[tuple[KernelClient, Counted]]:
    """A client of a new agent `desk`, and what counts its requests."""
    plain, counted = await kernel.agent("desk", capacity=capacity), Counted()
    [token] = plain.secrets
    async with httpx.AsyncClient(transport=counted, timeout=5) as http:
        yield KernelClient(kernel.base_url, agent=plain.agent, token=token, http=http), counted


async def answer(_: Turn) -> str:
    return "done"


async def test_a_turn_is_one_request(kernel: LocalKernel) -> None:
    """What settles a turn claims the next, with its context; and nothing is read afterwards."""
    async with desk_of(kernel) as (client, counted):
        turns = [await kernel.dispatch("desk", {}) for _ in range(10)]
        async with working(Worker(client, answer)):
            await closed(await kernel.agent("reader"), turns[-1])
    assert counted.asked["settle-many"] + counted.asked["finish"] == 10
    assert counted.asked["claim"] <= 1 + 3  # there is none at once, there is none for a while, it goes home
    assert counted.asked.total() <= 14 + _WHEN_IT_STARTS, counted.asked


async def test_an_agent_reads_no_records(kernel: LocalKernel, tmp_path: Path) -> None:
    """Each of its steps is a request, as is what it used; the records from before came with the claim."""

    async def run(turn: Turn) -> None:
        harness = Harness(turn, agent="a")
        async with harness.running():
            for _ in range(3):
                await harness.model(dict)

    async with desk_of(kernel) as (client, counted):
        turn = await kernel.dispatch("desk", {})
        worker = Worker(client, run, options=WorkerOptions(private_store=FolderStore(tmp_path)))
        async with working(worker):
            await closed(await kernel.agent("reader"), turn)
    last_parts = [path.rpartition("/")[2] for path in counted.asked.elements()]
    assert last_parts.count("semantic-records") == 4
    assert last_parts.count("context") == 0


async def test_a_turn_costs_less_where_there_are_many(kernel: LocalKernel) -> None:
    """What a worker has to say of several turns at one time goes in one request."""
    async with desk_of(kernel, capacity=16) as (client, counted):
        turns = [await kernel.dispatch("desk", {}) for _ in range(48)]
        reader = await kernel.agent("reader")
        async with working(Worker(client, answer)):
            for turn in turns:
                await closed(reader, turn)
    assert counted.asked.total() <= 48 + _WHEN_IT_STARTS, counted.asked


async def test_what_settles_a_turn_claims_the_next_while_other_slots_are_free(kernel: LocalKernel) -> None:
    """A claim request takes five turns at most: short ones would end as fast, and most slots stay free."""
    async with desk_of(kernel, capacity=16) as (client, counted):
        turns = [await kernel.dispatch("desk", {}) for _ in range(160)]
        reader = await kernel.agent("reader")
        async with working(Worker(client, answer)):
            for turn in turns:
                await closed(reader, turn)
    assert counted.asked["claim-many"] <= 10, counted.asked


async def test_a_turn_is_followed_by_the_next_one_in_the_same_task(kernel: LocalKernel) -> None:
    """Unless it leaves something to clean up, a turn of a busy worker makes no task but its handler's."""
    tasks: list[int] = []

    class Noting(Worker):
        async def handle(self, _: Turn) -> str:
            return "done"

        async def on_settled(self, _: TurnReport) -> None:
            tasks.append(anyio.get_current_task().id)

    async with await kernel.agent("desk") as desk:
        turns = [await kernel.dispatch("desk", "plain") for _ in range(10)]
        async with working(Noting(desk)):
            await closed(desk, turns[-1])
    assert len(set(tasks)) <= 4, tasks


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("capacity", "most"), [(1, 0.4), (8, 0.4)])
async def test_a_turn_makes_no_task(kernel: LocalKernel, capacity: int, most: float) -> None:
    """Neither its lease, unless it is renewed, nor its result's way to the disk needs one, nor its handler.

    A handler that waits for something would keep the task, and the turn would go on in another.
    """
    made, by_turn, loop = 0, list[int](), asyncio.get_running_loop()

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        nonlocal made
        made += 1
        return asyncio.Task(coroutine, loop=loop, **options)

    class Noting(Worker):
        async def handle(self, _: Turn) -> str:
            return "done"

        async def on_settled(self, _: TurnReport) -> None:
            by_turn.append(made)

    async with await kernel.agent("desk", capacity=capacity) as desk:
        turns = [await kernel.dispatch("desk", {}) for _ in range(20 + 10 * capacity)]
        loop.set_task_factory(make)
        async with working(Noting(desk)):
            for turn in turns:
                await closed(desk, turn)
        loop.set_task_factory(None)
    assert (by_turn[-6] - by_turn[5]) / (len(turns) - 10) <= most, by_turn


async def test_turns_of_one_answer_need_one_look_at_the_outbox(
    kernel: LocalKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier holder of any of them had stored its result before the answer came."""
    names_in, looks = vars(batch_files)["_names_in"], Counter[str]()

    def counting(folder: Path) -> list[str]:
        looks["looks"] += 1
        found: list[str] = names_in(folder)
        return found

    monkeypatch.setattr(batch_files, "_names_in", counting)
    async with desk_of(kernel, capacity=5) as (client, counted):
        turns = [await kernel.dispatch("desk", {}) for _ in range(60)]
        reader = await kernel.agent("reader")
        async with working(Worker(client, answer)):
            for turn in turns:
                await closed(reader, turn)
    assert looks["looks"] <= counted.asked.total() + 1, counted.asked


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("capacity", "most"), [(1, 160), (8, 130)])
async def test_a_turn_makes_few_calls(new_project: NewProject, capacity: int, most: int) -> None:
    """Of the worker's own functions, without those that read, write and send; each takes its time."""
    calls, counts = 0, list[int]()

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal calls
        calls += event == "call" and _is_workers(frame.f_code.co_filename)

    class Noting(Worker):
        async def handle(self, _: Turn) -> str:
            return "done"

        async def on_settled(self, _: TurnReport) -> None:
            counts.append(calls)

    async with new_project() as kernel, await kernel.agent("desk", capacity=capacity) as desk:
        turns = [await kernel.dispatch("desk", {}) for _ in range(40)]
        sys.setprofile(count)
        try:
            async with working(Noting(desk)):
                for turn in turns:
                    await closed(desk, turn)
        finally:
            sys.setprofile(None)
    made = (counts[34] - counts[10]) / 24
    assert 20 < made <= most, made


def _is_workers(file: str) -> bool:
    """Whether a file is the worker's own: not of the kernel, and not of what both have."""
    _, _, path = file.rpartition("/cgworker/")
    return path != file and path.partition("/")[0] not in ("kernel", "wire", "client", "testing")


async def test_a_worker_makes_no_events_of_turns_that_nobody_hears(kernel: LocalKernel) -> None:
    """What watches only the worker, as `run` does until the process ends, adds nothing to its turns."""
    heard = Counter[str]()

    def note(event: Event) -> None:
        heard[type(event).__name__] += 1

    async with await kernel.agent("desk") as desk:
        for hears_turns in (False, True):
            turn, worker = await kernel.dispatch("desk", {}), Worker(desk, answer)
            worker.listen(note, turns=hears_turns)
            async with working(worker):
                await closed(desk, turn)
            assert heard["WorkerStarted"] == 1
            of_turns = [heard[name] for name in ("TurnClaimed", "HandlerStarted", "TurnSettled")]
            assert of_turns == [int(hears_turns)] * 3, heard
            heard.clear()


async def test_a_turn_leaves_nothing_to_the_garbage_collector(kernel: LocalKernel) -> None:
    """Its objects form no cycle: a busy worker would collect all the time."""
    seen: list[weakref.ref[Turn]] = []

    async def note(turn: Turn) -> None:
        seen.append(weakref.ref(turn))

    async with await kernel.agent("desk") as desk:
        turns = [await kernel.dispatch("desk", {}) for _ in range(20)]
        gc.disable()
        try:
            async with working(Worker(desk, note)):
                await closed(desk, turns[-1])
            left = [turn for turn in seen if turn() is not None]
        finally:
            gc.enable()
    assert len(seen) == 20
    assert len(left) <= 1, left


async def test_an_answer_leaves_nothing_to_the_garbage_collector(kernel: LocalKernel) -> None:
    """Its parser refers to it no longer: each request of a busy worker left twelve objects."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await desk.turns.get(turn)
            left = sum(isinstance(found, ResponseParser) for found in gc.get_objects())
        finally:
            gc.enable()
    assert left <= 5  # of requests that wait


async def test_leases_are_renewed_together_and_three_times_each(kernel: LocalKernel) -> None:
    """Twelve turns of 2 s leases, held for 4 s: hardly more requests than for one of them."""

    async def hold(_: Turn) -> None:
        await anyio.sleep(4)

    async with desk_of(kernel, capacity=12) as (client, counted):
        turns = [await kernel.dispatch("desk", {}) for _ in range(12)]
        async with working(Worker(client, hold)):
            for turn in turns:
                await closed(client, turn)
    renewals = counted.asked["renew"] + counted.asked["renew-many"]
    # In three steps at most, and some more on a slow machine; by themselves they would be 72 or more.
    assert 5 <= renewals <= 36, counted.asked


async def test_an_idle_worker_asks_nothing_more_while_it_waits(new_project: NewProject) -> None:
    """It waits at the kernel; what it looked for when it started is not looked for again soon."""
    async with (
        new_project() as kernel,
        desk_of(kernel) as (client, counted),
        working(Worker(client, answer)),
    ):
        await anyio.sleep(1)
        counted.asked.clear()
        await anyio.sleep(5)
        assert counted.asked.total() == 0, counted.asked


async def test_workers_that_start_together_do_not_ask_together(kernel: LocalKernel) -> None:
    """A hundred of them ask their first questions a few at a time; so would ten thousand."""
    counted = Counted()
    async with httpx.AsyncClient(transport=counted, timeout=5) as http, AsyncExitStack() as stack:
        workers = []
        for number in range(100):
            plain = await kernel.agent(f"desk-{number}")
            [token] = plain.secrets
            client = KernelClient(kernel.base_url, agent=plain.agent, token=token, http=http)
            workers.append(Worker(client, answer))
        group = await stack.enter_async_context(anyio.create_task_group())
        for worker in workers:
            group.start_soon(worker.run)
        with anyio.fail_after(60):
            while counted.asked["claim"] < len(workers):  # noqa: ASYNC110  # the transport tells nobody
                await anyio.sleep(0.01)
        for worker in workers:
            worker.drain()
        most_at_once = counted.most_at_once
    assert most_at_once <= 20


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_idle_worker_wakes_once_a_second(
    kernel: LocalKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To see whether the event loop stands still; and a hundred workers as seldom as one."""
    async with AsyncExitStack() as stack:
        for number in range(20):
            client = await stack.enter_async_context(await kernel.agent(f"desk-{number}"))
            await stack.enter_async_context(working(Worker(client, answer)))
        await anyio.sleep(1)
        wakeups = count_wakeups(monkeypatch)
        await anyio.sleep(5)
        assert 3 <= wakeups() <= 12


def count_wakeups(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often the event loop has been woken, from now on."""
    selector: Any = vars(asyncio.get_running_loop())["_selector"]
    count, select = 0, selector.select

    def counting(timeout: float | None = None) -> Any:
        nonlocal count
        count += 1
        return select(timeout)

    monkeypatch.setattr(selector, "select", counting)
    return lambda: count
