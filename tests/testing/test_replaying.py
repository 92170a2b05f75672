"""A past turn done again: its steps, children and answers are as they were."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import KernelClient, Turn, UsageError, Worker, WorkerOptions
from cgworker.durable.answers import answer_question, questions_of
from cgworker.testing import LocalKernel, local_kernel
from cgworker.testing.replaying import replay
from cgworker.wire.refs import TurnRef


@pytest.fixture(scope="module")
async def kernel() -> AsyncIterator[LocalKernel]:
    async with local_kernel() as kernel:
        yield kernel


@pytest.fixture
async def desk(kernel: LocalKernel, tmp_path: Path) -> AsyncIterator[KernelClient]:
    async with await kernel.agent(tmp_path.name) as desk:
        yield desk


def worker_of(client: KernelClient, handler: Any, folder: Path) -> Worker:
    return Worker(client, handler, options=WorkerOptions(wait_seconds=1, outbox_path=folder))


def handler_with(step: int) -> Any:
    async def handle(turn: Turn) -> list[Any]:
        await turn.record({"step": step})
        made = await turn.once("step", lambda: step)
        part = (await turn.children({"the part": turn.child("helper", turn.input)}))["the part"]
        answer = await turn.ask(str, "which?", key="which")
        return [made, part.payload, answer]

    return handle


async def answered(desk: KernelClient, turn: TurnRef) -> None:
    with anyio.fail_after(60):
        while not await questions_of(desk, turn):
            await desk.turns.get(turn, state="running", wait_seconds=1)
        await answer_question(desk, turn, "this one")


async def test_steps_children_and_answers_are_as_they_were(
    kernel: LocalKernel, desk: KernelClient, tmp_path: Path
) -> None:
    """A step is not done again, a child not dispatched again, nobody is asked, and nothing is written."""
    assert desk.agent is not None
    turn = await kernel.dispatch(desk.agent.agent_id, {"a": 1})
    async with await kernel.agent("helper") as helper, anyio.create_task_group() as tasks:
        workers = [
            worker_of(desk, handler_with(1), tmp_path),
            worker_of(helper, lambda turn: turn.input, tmp_path),
        ]
        for worker in workers:
            await tasks.start(worker.run)
        await answered(desk, turn)
        await kernel.closed(turn)
        for worker in workers:
            worker.drain()
    before = dict(kernel.faults.seen)
    recorded: list[tuple[str, Any]] = []
    done = await replay(desk, turn, handler_with(2), on_record=lambda *record: recorded.append(record))
    assert done.then.payload == [1, {"a": 1}, "this one"]
    assert (done.now, done.same, done.difference) == (done.then, True, ())
    assert recorded[0] == ("progress", {"step": 2})
    changed = {verb for verb, count in kernel.faults.seen.items() if count != before.get(verb)}
    assert changed == {"get", "context"}


async def test_all_records_can_be_shown(kernel: LocalKernel, desk: KernelClient, tmp_path: Path) -> None:
    """All but the final one, as a later attempt would see them."""
    assert desk.agent is not None

    async def handle(turn: Turn) -> int:
        count = len(await turn.records())
        await turn.record("more")
        return count

    turn = await kernel.dispatch(desk.agent.agent_id, None)
    await worker_of(desk, handle, tmp_path).once(wait_seconds=10)
    assert (await replay(desk, turn, handle)).same
    assert (await replay(desk, turn, handle, all_records=True)).now.payload == 2


async def test_a_turn_that_is_not_closed_is_refused(kernel: LocalKernel, desk: KernelClient) -> None:
    """There is nothing to compare with."""
    assert desk.agent is not None
    turn = await kernel.dispatch(desk.agent.agent_id, None)
    with pytest.raises(UsageError, match="is queued: only a closed turn"):
        await replay(desk, turn, handler_with(1))
