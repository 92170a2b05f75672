"""Workers on machines whose clocks are wrong: what is due when is told by the kernel's clock alone."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest

from cgworker import KernelClient, Turn, TurnRef, Worker, WorkerOptions, retry
from cgworker.events import TurnResumed
from cgworker.testing import LocalKernel
from cgworker.wire.meta import Meta
from cgworker.worker.suspension import cause_of_suspension
from tests.journeys.conftest import Witness, closed, in_state, working

HOUR = timedelta(hours=1)
OPTIONS = WorkerOptions(wait_seconds=5)


@pytest.fixture(params=[HOUR, -HOUR], ids=["ahead", "behind"])
def wrong_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker reads from its machine's clock is an hour wrong; the kernel asks PostgreSQL."""
    wrong_by: timedelta = request.param

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Wrong:
            return super().now(tz) + wrong_by

    for name, module in tuple(sys.modules.items()):
        is_the_workers = name == "cgworker.outcome" or name.startswith("cgworker.worker")
        if is_the_workers and vars(module).get("datetime") is datetime:
            monkeypatch.setattr(module, "datetime", Wrong)


async def suspension_of(kernel: KernelClient, turn: TurnRef) -> tuple[datetime, datetime | None]:
    """When a turn was suspended, and when it may be tried again, if its worker said so."""
    event = next(
        each for each in (await kernel.turns.feed(turn)).items if each.event_type == "turn.suspended"
    )
    return event.created_at, cause_of_suspension(event).not_before


@pytest.mark.usefixtures("wrong_clock")
@pytest.mark.parametrize("is_plain", [False, True], ids=["ours", "plain"])
async def test_the_kernels_clock_tells_when_a_retry_is_due(kernel: LocalKernel, is_plain: bool) -> None:
    """A worker that is an hour ahead would keep the others from it for an hour."""
    if is_plain:  # it tells its time in renewals only
        kernel.faults.ignore_preferences()
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def handle(_: Turn) -> Any:
            return retry(600)

        turn = await kernel.dispatch("desk", {})
        await worker.once()
        suspended_at, not_before = await suspension_of(desk, turn)
        due_at = not_before if is_plain else (await desk.turns.get(turn)).resume_at
        assert isinstance(due_at, datetime)
        assert abs((due_at - suspended_at).total_seconds() - 600) < 10


async def suspended_for_a_retry(kernel: LocalKernel, desk: KernelClient, seconds: float) -> TurnRef:
    """A turn that another worker, which is gone, wants tried again so long after it was suspended."""
    assert desk.agent is not None
    turn = await kernel.dispatch("desk", {})
    claimed = (await desk.claims.claim(desk.agent)).claimed
    assert claimed is not None
    assert isinstance(claimed.server_time, datetime)
    due_at = claimed.server_time + timedelta(seconds=seconds)
    await desk.turns.suspend(
        claimed.claim, "worker_retry", meta=Meta(annotations={"not_before": due_at.isoformat()})
    )
    return turn


@pytest.mark.usefixtures("wrong_clock")
async def test_who_resumes_a_retry_goes_by_the_kernels_clock(kernel: LocalKernel) -> None:
    """What is due is resumed by a worker that is an hour behind; what is not, by none that is ahead."""
    witness = Witness()
    async with await kernel.agent("desk") as desk:
        due = await suspended_for_a_retry(kernel, desk, 1)
        later = await suspended_for_a_retry(kernel, desk, 600)
        worker = Worker(desk, lambda _: "done", options=OPTIONS, listener=witness)
        async with working(worker):
            assert (await closed(desk, due, seconds=20)).final_payload == "done"
            await anyio.sleep(0.5)
        assert [event.turn for event in witness.of(TurnResumed)] == [due]
        await in_state(desk, later, "suspended")


@pytest.mark.usefixtures("wrong_clock")
@pytest.mark.parametrize("is_plain", [False, True], ids=["ours", "plain"])
async def test_a_sleep_lasts_as_long_as_the_kernels_clock_says(kernel: LocalKernel, is_plain: bool) -> None:
    """A worker that is an hour ahead does not cut it short, and one that is behind adds no hour."""
    if is_plain:
        kernel.faults.ignore_preferences()
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def nap(turn: Turn) -> str:
            await turn.sleep(1.0, key="nap")
            return "rested"

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            ended = await closed(desk, turn, seconds=20)
        begun = next(item for item in (await desk.turns.context(turn)).semantic_items[1:])
        assert ended.closed_at is not None
        assert 1.0 <= (ended.closed_at - begun.record.created_at).total_seconds() < 10
