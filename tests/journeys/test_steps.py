"""Steps and streams: what a turn has done is kept, and not done again."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.from_thread
import pytest
from attrs import frozen

from cgworker import Turn, Worker, WorkerOptions, answer_question, retry
from cgworker.errors import PayloadTooLarge
from cgworker.testing import LocalKernel
from tests.journeys.conftest import closed, in_state, working

OPTIONS = WorkerOptions(concurrency=1, renew_seconds=0.2, wait_seconds=5, interrupt_seconds=1)


def count_one(made: list[int]) -> int:
    made.append(1)
    return len(made)


@frozen
class Found:
    text: str
    count: int = 1


async def test_a_step_is_done_once_over_attempts(kernel: LocalKernel) -> None:
    """Handed back after the step and begun again from the top: the value is there, of its type."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)
        made: list[str] = []
        seen: list[Found] = []

        @worker.turn()
        async def work(turn: Turn) -> Any:
            async def search() -> Found:
                made.append("search")
                return Found("it")

            seen.append(await turn.once("search", search, returns=Found))
            return retry() if len(seen) < 3 else (await turn.once("plain", lambda: (1, 2)))

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            assert (await closed(desk, turn)).final_payload == [1, 2]
        assert (made, seen) == (["search"], [Found("it")] * 3)
        steps = [item.payload async for item in desk.turns.records(turn) if item.record.record_role == "step"]
        assert steps == [
            {"key": "search", "value": {"text": "it", "count": 1}},
            {"key": "plain", "value": [1, 2]},
        ]


async def test_a_step_outlives_the_lease_it_was_done_under(kernel: LocalKernel) -> None:
    """Its worker is cut off while it works on; the next one finds the step."""
    async with await kernel.agent("desk") as desk:
        made: list[int] = []
        reached = anyio.Event()

        def step_worker(*, then_hang: bool) -> Worker:
            worker = Worker(
                desk, options=WorkerOptions(concurrency=1, grace_seconds=0, interrupt_seconds=0.2)
            )

            @worker.turn()
            async def work(turn: Turn) -> Any:
                value = await turn.once("one", lambda: count_one(made))
                if then_hang:
                    reached.set()
                    await anyio.sleep_forever()
                return value

            return worker

        turn = await kernel.dispatch("desk", {})
        async with working(step_worker(then_hang=True)):
            await reached.wait()
            await kernel.faults.steal_lease(turn)
        async with working(step_worker(then_hang=False)):
            assert (await closed(desk, turn)).final_payload == 1
        assert made == [1]


async def test_the_same_step_in_two_tasks_is_one_step(kernel: LocalKernel) -> None:
    """And different steps do not wait for each other."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)
        made: list[str] = []

        @worker.turn()
        async def work(turn: Turn) -> Any:
            values: list[Any] = []

            async def do(key: str) -> None:
                async def make() -> str:
                    made.append(key)
                    await anyio.sleep(0.02)
                    return key

                values.append(await turn.once(key, make))

            async with anyio.create_task_group() as group:
                for key in ("a", "b", "a", "a"):
                    group.start_soon(do, key)
            return sorted(values)

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            assert (await closed(desk, turn)).final_payload == ["a", "a", "a", "b"]
        assert sorted(made) == ["a", "b"]


async def test_a_step_that_fails_is_not_kept(kernel: LocalKernel) -> None:
    """What it raises reaches the handler, which may try again; what is no JSON, or too much, says so."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def work(turn: Turn) -> Any:
            with pytest.raises(ZeroDivisionError):
                await turn.once("one", lambda: 1 / 0)
            with pytest.raises(TypeError):
                await turn.once("one", lambda: {1, 2}.__iter__())
            with pytest.raises(ValueError, match="NaN"):
                await turn.once("one", lambda: float("nan"))
            with pytest.raises(PayloadTooLarge):
                await turn.once("one", lambda: "x" * 17_000_000)
            return await turn.once("one", lambda: "at last")

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            assert (await closed(desk, turn)).final_payload == "at last"


async def test_a_lost_answer_makes_no_second_step(kernel: LocalKernel) -> None:
    """The record is there, so it is found, and the work is not done again."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)
        made: list[int] = []

        @worker.turn()
        async def work(turn: Turn) -> Any:
            return await turn.once("one", lambda: count_one(made))

        turn = await kernel.dispatch("desk", {})
        kernel.faults.drop_response("append")
        async with working(worker):
            assert (await closed(desk, turn)).final_payload == 1
        roles = [item.record.record_role async for item in desk.turns.records(turn)]
        assert (roles, made) == (["bootstrap", "step", "deliverable"], [1])


async def test_a_handler_in_a_thread_takes_steps_too(kernel: LocalKernel) -> None:
    """By way of anyio.from_thread; also what suspends gets through the thread."""
    kinds = ["turn.conversation.v1", "turn.other.v1"]
    async with await kernel.agent("desk", kinds=kinds) as desk:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        def work(turn: Turn) -> Any:
            value = anyio.from_thread.run(turn.once, "one", lambda: "threaded")
            child = turn.child("desk", {}, kind="turn.other.v1")
            found = anyio.from_thread.run(turn.children, {"other": child})
            return [value, found["other"].payload]

        @worker.turn("turn.other.v1")
        async def other(_: Turn) -> str:
            return "child"

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            assert (await closed(desk, turn)).final_payload == ["threaded", "child"]


async def test_a_stream_becomes_few_records(kernel: LocalKernel) -> None:
    """Ten thousand tokens are not ten thousand records; all of the text is there, in order."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)
        tokens = [f"t{number} " for number in range(10_000)]

        @worker.turn()
        async def talk(turn: Turn) -> Any:
            async with turn.stream("model_output", max_characters=8192) as out:
                for token in tokens:
                    await out.write(token)
            return {"records": out.record_count, "characters": out.character_count}

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            found = await closed(desk, turn)
        pieces = [
            item.payload
            async for item in desk.turns.records(turn)
            if item.record.record_role == "model_output"
        ]
        assert "".join(piece["text"] for piece in pieces) == "".join(tokens)
        assert [piece["index"] for piece in pieces] == list(range(len(pieces)))
        assert found.final_payload == {"records": len(pieces), "characters": len("".join(tokens))}
        assert len(pieces) <= 8


async def test_a_slow_stream_keeps_no_reader_waiting(kernel: LocalKernel) -> None:
    """What was written is recorded after a moment, although the block goes on."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)
        seen = anyio.Event()

        @worker.turn()
        async def talk(turn: Turn) -> Any:
            async with turn.stream(max_seconds=0.01) as out:
                await out.write("first")
                await seen.wait()
                await out.write("second")

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            with anyio.fail_after(60):
                while len((await desk.turns.context(turn)).semantic_items) < 2:  # noqa: ASYNC110  # a reader polls
                    await anyio.sleep(0.02)
            seen.set()
            await closed(desk, turn)
        texts = [item.payload["text"] async for item in desk.turns.records(turn, after_turn_seq=1)]
        assert texts == ["first", "second"]


async def test_a_stream_is_saved_when_its_handler_is_ended(kernel: LocalKernel) -> None:
    """Stopped, or failing: what was said until then is public, and the error is the handler's own."""
    async with await kernel.agent("desk", kinds=["turn.stop.v1", "turn.raise.v1"]) as desk:
        worker = Worker(desk, options=OPTIONS)
        started = anyio.Event()

        @worker.turn("turn.stop.v1")
        async def stopped(turn: Turn) -> Any:
            async with turn.stream(max_seconds=60) as out:
                await out.write("said until stopped")
                started.set()
                await anyio.sleep_forever()

        @worker.turn("turn.raise.v1")
        async def raising(turn: Turn) -> Any:
            async with turn.stream(max_seconds=60) as out:
                await out.write("said until it broke")
                raise ValueError("broke")

        async with working(worker):
            first = await kernel.dispatch("desk", {}, kind="turn.stop.v1")
            await started.wait()
            await desk.turns.stop(first, requested_by=desk.agent)  # type: ignore[arg-type]
            assert (await closed(desk, first)).outcome == "stopped"
            second = await kernel.dispatch("desk", {}, kind="turn.raise.v1")
            report = (await closed(desk, second)).final_payload
        assert (report["type"], report["message"]) == ("ValueError", "broke")
        for turn, text in ((first, "said until stopped"), (second, "said until it broke")):
            assert [item.payload async for item in desk.turns.records(turn)][1] == {"index": 0, "text": text}


async def test_a_failed_turn_done_again_goes_on_where_it_failed(kernel: LocalKernel) -> None:
    """With its steps and its answer; without, it begins anew (difference 34)."""
    async with await kernel.agent("desk") as desk, await kernel.agent("requester") as requester:
        worker, made, is_mended = Worker(desk, options=OPTIONS), list[int](), list[bool]()

        @worker.turn()
        async def work(turn: Turn) -> Any:
            found = await turn.once("search", lambda: count_one(made))
            answer = await turn.ask(int, "How many?", key="n")
            if not is_mended:
                raise RuntimeError("a fault of the handler")
            return [found, answer]

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await in_state(desk, turn, "suspended")
            await answer_question(desk, turn, 7)
            assert (await closed(desk, turn)).outcome == "failed"
            is_mended.append(True)
            again = await requester.turns.redo(turn, keep_steps=True)
            assert (await closed(desk, again)).final_payload == [1, 7]
            assert len(made) == 1
            anew = await requester.turns.redo(turn, key="anew")
            await in_state(desk, anew, "suspended")
            assert len(made) == 2
