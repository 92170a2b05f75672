"""What a worker opens for its handlers: entered before the first claim, left after the drain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import KernelClient, Turn, UsageError, Worker, WorkerOptions, handles
from cgworker.testing import LocalKernel, local_kernel


@pytest.fixture(scope="module")
async def kernel() -> AsyncIterator[LocalKernel]:
    async with local_kernel() as kernel:
        yield kernel


@pytest.fixture
async def desk(kernel: LocalKernel, request: pytest.FixtureRequest) -> AsyncIterator[KernelClient]:
    async with await kernel.agent(f"desk-{id(request)}", capacity=2) as desk:
        yield desk


@pytest.fixture
def options(tmp_path: Path) -> WorkerOptions:
    return WorkerOptions(wait_seconds=1, grace_seconds=5, outbox_path=tmp_path)


def agent_of(client: KernelClient) -> str:
    assert client.agent is not None
    return client.agent.agent_id


async def test_resources_reach_async_functions_threads_and_methods(
    kernel: LocalKernel, desk: KernelClient, options: WorkerOptions
) -> None:
    """By the name of the parameter; the lifespan is called with the worker."""
    told = []

    @asynccontextmanager
    async def lifespan(worker: Worker) -> AsyncIterator[Mapping[str, Any]]:
        told.append(worker)
        yield {"prefix": "<", "suffix": ">"}

    class Desk(Worker):
        @handles("turn.conversation.v1")
        async def conversation(self, _: Turn, text: str, *, prefix: str) -> str:
            return prefix + text

        async def handle(self, turn: Turn, *, suffix: str) -> str:  # type: ignore[override]  # by name
            return f"{turn.input}{suffix}"

    worker = Desk(desk, options=options, lifespan=lifespan)

    @worker.turn("thread.v1")
    def in_a_thread(_: Turn, text: str, prefix: str, *, suffix: str) -> str:
        return prefix + text + suffix

    assert worker.handlers.keys() == {"turn.conversation.v1", "thread.v1"}
    await kernel.dispatch(agent_of(desk), "a")
    report = await worker.once(wait_seconds=5)
    assert report is not None
    assert report.outcome is not None
    assert (report.settled, told) == (True, [worker])
    assert (await desk.turns.get(report.turn)).final_payload == "<a"


async def test_it_is_entered_before_the_first_claim_and_left_after_the_drain(
    kernel: LocalKernel, desk: KernelClient, options: WorkerOptions
) -> None:
    """What is held ends with its resources still open."""
    story: list[str] = []
    working, draining = anyio.Event(), anyio.Event()

    @asynccontextmanager
    async def lifespan(_: Worker) -> AsyncIterator[dict[str, Any]]:
        story.append(f"opened, claims so far: {kernel.faults.seen['claim'] - claims_before}")
        yield {"log": story}
        story.append("closed")

    worker = Worker(desk, options=options, lifespan=lifespan)

    @worker.turn()
    async def handle(_: Turn, *, log: list[str]) -> None:
        working.set()
        await draining.wait()
        log.append("handled")

    claims_before = kernel.faults.seen["claim"]
    await kernel.dispatch(agent_of(desk), "a")
    async with anyio.create_task_group() as tasks:
        await tasks.start(worker.run)
        await working.wait()
        worker.drain()
        draining.set()
    assert story == ["opened, claims so far: 0", "handled", "closed"]


async def test_a_handler_that_asks_for_what_is_not_given_keeps_the_worker_from_starting(
    kernel: LocalKernel, desk: KernelClient, options: WorkerOptions
) -> None:
    """Nothing is claimed, and the lifespan is left again."""
    left = []

    @asynccontextmanager
    async def lifespan(_: Worker) -> AsyncIterator[None]:
        try:
            yield
        finally:
            left.append(True)

    worker = Worker(desk, options=options, lifespan=lifespan)

    @worker.turn()
    async def handle(_: Turn, *, database: object) -> None: ...

    before = kernel.faults.seen["claim"]
    for start in (worker.once, worker.run):
        with pytest.raises(UsageError, match=r"handle asks for `database`, and the lifespan gives nothing"):
            await start()
    assert (kernel.faults.seen["claim"], left) == (before, [True, True])


async def test_a_lifespan_that_cannot_be_one_is_refused_with_what_to_do(desk: KernelClient) -> None:
    """It is no context manager, or yields something without names."""

    async def undecorated(_: Worker) -> AsyncIterator[dict[str, Any]]:
        yield {}

    @asynccontextmanager
    async def nameless(_: Worker) -> AsyncIterator[Any]:
        yield "database"

    for lifespan, told in ((undecorated, "@asynccontextmanager"), (nameless, "resources by name")):
        worker = Worker(desk, lambda _: None, lifespan=lifespan)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(UsageError, match=told):
            await worker.once()


async def test_without_a_lifespan_the_decorator_says_so(desk: KernelClient) -> None:
    """Not the first turn."""
    worker = Worker(desk)
    with pytest.raises(UsageError, match=r"handle asks for `database`, and there is no lifespan"):

        @worker.turn()
        async def handle(_: Turn, *, database: object) -> None: ...


async def test_handlers_may_be_added_in_the_lifespan_but_not_later(
    kernel: LocalKernel, desk: KernelClient, options: WorkerOptions
) -> None:
    """They are looked at once, when the worker starts."""
    refused: list[str] = []

    @asynccontextmanager
    async def lifespan(worker: Worker) -> AsyncIterator[None]:
        worker.add(None, handle)
        yield

    async def handle(_: Turn) -> str:
        try:
            worker.add("late.v1", handle)
        except UsageError as error:
            refused.append(str(error))
        return "done"

    worker = Worker(desk, options=options, lifespan=lifespan)
    await kernel.dispatch(agent_of(desk), "a")
    report = await worker.once(wait_seconds=5)
    assert report is not None
    assert report.settled
    assert "runs already" in refused[0]


async def test_the_same_worker_at_another_kernel_keeps_its_handlers(
    kernel: LocalKernel, desk: KernelClient, options: WorkerOptions
) -> None:
    """`at` gives a worker of its own: what is added to the one is not the other's middleware or state."""
    worker = Worker(desk, lambda turn: f"heard {turn.input}", options=options)
    async with await kernel.agent("elsewhere") as elsewhere:
        other = worker.with_kernel(elsewhere)
        turn = await kernel.dispatch("elsewhere", "it")
        await other.once(wait_seconds=5)
        assert (await elsewhere.turns.get(turn)).final_payload == "heard it"
    assert (worker.kernel, other.kernel) == (desk, elsewhere)
