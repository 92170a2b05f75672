"""Moments in which a worker is easily caught out: between two steps, or in a hook of the user's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx
import pytest

from cgworker import KernelClient, Turn, TurnReport, Worker, WorkerOptions, suspend
from cgworker.client.connections import Connections
from cgworker.events import Event
from cgworker.outcome import Outcome
from cgworker.testing import LocalKernel
from cgworker.wire.refs import TurnRef
from tests.journeys.conftest import closed, history, in_state, working

FAST = WorkerOptions(wait_seconds=5)


async def states(client: KernelClient, turns: list[TurnRef]) -> list[str]:
    return [(await client.turns.get(turn)).state for turn in turns]


# ---------------------------------------------------------------- hooks


class Hooked(Worker):
    """Takes a while to note what came of a turn."""

    async def handle(self, _: Turn) -> str:
        return "done"

    async def on_settled(self, _: TurnReport) -> None:
        self.is_in_hook.set()
        await anyio.sleep(0.3)
        self.noted += 1

    is_in_hook: anyio.Event
    noted: int = 0


@pytest.mark.parametrize("how", ["drained", "cancelled"])
async def test_a_hook_runs_to_its_end_and_what_was_claimed_ahead_is_given_back(
    patient: LocalKernel, how: str
) -> None:
    """The worker is told to end while the hook awaits something."""
    async with await patient.agent("desk") as desk:
        worker = Hooked(desk, options=FAST)
        worker.is_in_hook = anyio.Event()
        turns = [await patient.dispatch("desk", {}) for _ in range(2)]
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            await worker.is_in_hook.wait()
            if how == "drained":
                worker.drain()
            else:
                group.cancel_scope.cancel()
        assert worker.noted == 1
        assert await states(desk, turns) == ["closed", "queued"]


class Leaves(Worker):
    """Calls `sys.exit` when a turn is settled, which is not how a worker is ended."""

    async def handle(self, turn: Turn) -> str:
        if turn.input == "long":
            await anyio.sleep(0.5)
        return "done"

    async def on_settled(self, _: TurnReport) -> None:
        raise SystemExit(0)


async def test_a_hook_that_leaves_harms_no_turn(patient: LocalKernel) -> None:
    """It is told in the log, as whatever a hook raises."""
    async with await patient.agent("desk", capacity=2) as desk:
        turns = [await patient.dispatch("desk", said) for said in ("long", "short")]
        async with working(Leaves(desk, options=FAST)):
            for turn in turns:
                await closed(desk, turn)


class Stolen(Worker):
    """Loses its lease while it notes the claim."""

    async def on_claimed(self, turn: Turn) -> None:
        await self.kernel_here.faults.steal_lease(turn.ref)
        while turn.interruption is None:  # noqa: ASYNC110  # nobody tells a hook
            await anyio.sleep(0.02)

    kernel_here: LocalKernel


@pytest.mark.parametrize("is_thread", [True, False])
async def test_no_handler_begins_after_its_turn_was_interrupted(kernel: LocalKernel, is_thread: bool) -> None:
    """Another may be at work on it."""
    ran = []
    async with await kernel.agent("desk") as desk:
        worker = Stolen(desk, options=FAST)
        worker.kernel_here = kernel
        if is_thread:
            worker.turn()(lambda turn: ran.append(turn))
        else:

            @worker.turn()
            async def handle(turn: Turn) -> None:
                ran.append(turn)

        await kernel.dispatch("desk", {})
        report = await worker.once()
    assert report is not None
    assert (report.settled, ran) == (False, [])


async def test_a_time_limit_counts_from_the_handler_s_start(patient: LocalKernel) -> None:
    """And not from the claim: it may wait for a slot that workers share."""

    async def handle(_: Turn) -> str:
        await anyio.sleep(0.4)
        return "done"

    options = WorkerOptions(time_limit_seconds=1.0, wait_seconds=5)
    slots = anyio.Semaphore(1)
    async with anyio.create_task_group() as group:
        workers = [Worker(await patient.agent(f"desk-{n}"), handle, options=options) for n in range(4)]
        for worker in workers:
            group.start_soon(lambda one: one.run(shared_slots=slots), worker)
        turns = [await patient.dispatch(f"desk-{n}", {}) for n in range(4)]
        reader = await patient.agent("reader")
        assert [(await closed(reader, turn)).outcome for turn in turns] == ["succeeded"] * 4
        for worker in workers:
            worker.drain()


# ---------------------------------------------------------------- ends


async def test_a_drain_before_a_lost_claim_is_asked_for_again_keeps_no_turn(patient: LocalKernel) -> None:
    """The claim was made, its answer lost, and the worker ends before it asks again."""

    def listen(event: Event) -> None:
        if type(event).__name__ == "ClaimingFailed":
            worker.drain()

    async def handle(_: Turn) -> str:
        return "done"

    async with await patient.agent("desk") as desk:
        worker = Worker(desk, handle, options=FAST, listener=listen)
        turn = await patient.dispatch("desk", {})
        patient.faults.drop_response("claim")
        await worker.run()
        assert (await history(desk, turn)).count("turn.claimed") == 1
        assert await states(desk, [turn]) == ["queued"]


async def test_a_cancelled_once_hands_its_turn_back(patient: LocalKernel) -> None:
    """As a cancelled `run()` does."""

    async def handle(_: Turn) -> None:
        await anyio.sleep_forever()

    async with await patient.agent("desk") as desk:
        turn = await patient.dispatch("desk", {})
        with anyio.move_on_after(0.5):
            await Worker(desk, handle, options=FAST).once()
        assert await states(desk, [turn]) == ["queued"]


# ---------------------------------------------------------------- what cannot be sent, or not be read


async def test_claims_that_are_long_in_coming_are_waited_for(
    patient: LocalKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several together may be too large for a slow line: given up once, they are asked for with more time."""
    monkeypatch.setattr("cgworker.worker.poller._REQUEST_NOW_SECONDS", 0.2)
    async with await patient.agent("desk", capacity=3) as desk:
        turns = [await patient.dispatch("desk", {}) for _ in range(6)]
        patient.faults.delay_response("claim", 0.4, times=1000)
        async with working(Worker(desk, lambda _: "done", options=FAST)):
            for turn in turns:
                await closed(desk, turn)


async def test_what_cannot_be_written_harms_no_neighbour(patient: LocalKernel) -> None:
    """A note with a name as `os.fsdecode` gives it, from a file system that is not in UTF-8."""
    begun, go = [], anyio.Event()

    async def handle(turn: Turn) -> Any:
        begun.append(turn)
        if len(begun) == 3:
            go.set()
        await go.wait()
        return suspend("unreadable", "caf\udce9\0.txt") if turn.input == "bad" else suspend("other")

    async with await patient.agent("desk", capacity=3) as desk:
        turns = [await patient.dispatch("desk", said) for said in ("bad", "good", "good")]
        async with working(Worker(desk, handle, options=FAST)):
            for turn in turns:
                await in_state(desk, turn, "suspended")


@pytest.mark.parametrize("on_error", ["fail", "suspend"])
async def test_an_exception_s_text_may_be_anything(patient: LocalKernel, on_error: Any) -> None:
    """It is told as far as it can be written, and the handler is not run again."""

    async def handle(_: Turn) -> None:
        raise ValueError("cannot parse caf\udce9.txt")

    async with await patient.agent("desk") as desk:
        turn = await patient.dispatch("desk", {})
        async with working(Worker(desk, handle, options=WorkerOptions(wait_seconds=5, on_error=on_error))):
            await in_state(desk, turn, "closed" if on_error == "fail" else "suspended")


async def test_a_suspension_that_the_kernel_refuses_ends_the_turn(patient: LocalKernel) -> None:
    """Its handler would be run again and again for nothing."""

    async def handle(_: Turn) -> Outcome:
        return suspend("big", "x" * 17_000_000)

    async with await patient.agent("desk") as desk:
        turn = await patient.dispatch("desk", {})
        async with working(Worker(desk, handle, options=FAST)):
            found = await closed(desk, turn)
        assert (found.outcome, found.final_payload["error"]) == ("failed", "worker_suspend_invalid")


async def test_middleware_that_returns_what_is_no_json_fails_its_turn(patient: LocalKernel) -> None:
    """As a handler would."""
    async with await patient.agent("desk") as desk:
        worker = Worker(desk, lambda _: "done", options=FAST)

        @worker.middleware
        async def spoil(turn: Turn, call_next: Callable[[Turn], Awaitable[Outcome]]) -> Any:
            await call_next(turn)
            return {1, 2}

        turn = await patient.dispatch("desk", {})
        async with working(worker):
            assert (await closed(desk, turn)).outcome == "failed"


class ProxyInTheWay(httpx.AsyncBaseTransport):
    """Carries calls out and answers some of them with a page of its own.

    Args:
        pages: how many.
    """

    def __init__(self, pages: int) -> None:
        self._pages = pages
        self._connections = Connections()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._connections.handle_async_request(request)
        if request.url.path.endswith((":finish", ":settle-many")) and self._pages:
            self._pages -= 1
            return httpx.Response(200, content=b"<html>be right back</html>")
        return answer

    async def aclose(self) -> None:
        await self._connections.aclose()


@pytest.mark.parametrize("pages", [1, 3])
async def test_an_answer_that_is_none_to_a_settle_call_is_asked_for_again(
    patient: LocalKernel, pages: int
) -> None:
    """It may have been carried out, and what was claimed with it as well."""
    plain = await patient.agent("desk")
    [token] = plain.secrets
    async with httpx.AsyncClient(transport=ProxyInTheWay(pages)) as http:
        desk = KernelClient(patient.base_url, agent=plain.agent, token=token, http=http)
        turns = [await patient.dispatch("desk", {}) for _ in range(3)]
        async with working(Worker(desk, lambda _: "done", options=FAST)):
            for turn in turns:
                await closed(plain, turn)
        for turn in turns:
            assert (await history(plain, turn)).count("turn.claimed") == 1
