"""Children: a parent gives work away, holds no slot meanwhile, and comes back with the results."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest
from attrs import evolve

from cgworker import Handler, KernelClient, Turn, TurnRef, UsageError, Worker, WorkerOptions, fail
from cgworker.events import TurnInterrupted, TurnResumed
from cgworker.testing import LocalKernel
from tests.journeys.conftest import Witness, closed, history, in_state, working

OPTIONS = WorkerOptions(
    concurrency=1, renew_seconds=0.2, interrupt_seconds=1, grace_seconds=1, wait_seconds=5
)


def expert_at(kernel: KernelClient, runs: Counter[int] | None = None) -> Worker:
    """A worker that squares numbers, and notes how often it did each."""
    worker = Worker(kernel, options=WorkerOptions(concurrency=1, wait_seconds=5))

    @worker.turn()
    async def square(_: Turn, asked: dict[str, int]) -> Any:
        if runs is not None:
            runs[asked["n"]] += 1
        return fail({"error": "negative"}) if asked["n"] < 0 else {"square": asked["n"] ** 2}

    return worker


async def test_a_parent_comes_back_with_what_its_children_left(kernel: LocalKernel) -> None:
    """Failed children are results as well; the handler's `except Exception` does not catch the waiting."""
    async with await kernel.agent("desk") as desk, await kernel.agent("expert") as expert:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def ask_around(turn: Turn) -> Any:
            try:
                found = await turn.children(
                    {"good": turn.child("expert", {"n": 3}), "bad": turn.child("expert", {"n": -1})}
                )
            except Exception:
                return fail({"error": "swallowed"})
            return {name: [result.outcome, result.payload] for name, result in found.items()}

        turn = await kernel.dispatch("desk", {})
        async with working(worker), working(expert_at(expert)):
            found = await closed(desk, turn)
        assert found.final_payload == {
            "good": ["succeeded", {"square": 9}],
            "bad": ["failed", {"error": "negative"}],
        }


async def test_a_waiting_parent_holds_no_slot(kernel: LocalKernel) -> None:
    """With one slot and a child for the very same agent, anything else would wait for ever."""
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def count_down(turn: Turn, n: int) -> int:
            if n == 0:
                return 0
            found = await turn.children({"next": turn.child("desk", n - 1)})
            return int(found["next"].payload) + 1

        turn = await kernel.dispatch("desk", 3)
        async with working(worker):
            assert (await closed(desk, turn)).final_payload == 3


async def test_the_first_children_are_enough_where_that_was_asked_for(kernel: LocalKernel) -> None:
    """Any of two: the other one may take as long as it likes."""
    async with await kernel.agent("desk") as desk, await kernel.agent("expert") as expert:
        await kernel.agent("sleeper")
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def race(turn: Turn) -> Any:
            racers = {"slow": turn.child("sleeper", {"n": 1}), "quick": turn.child("expert", {"n": 2})}
            return list(await turn.children(racers, first=1))

        turn = await kernel.dispatch("desk", {})
        async with working(worker), working(expert_at(expert)):
            assert (await closed(desk, turn)).final_payload == ["quick"]


async def test_any_live_worker_of_the_agent_wakes_the_parent(kernel: LocalKernel) -> None:
    """The worker that put it aside is gone; the children are closed while nobody watches."""
    async with await kernel.agent("desk") as desk, await kernel.agent("expert") as expert:

        def parent_worker() -> Worker:
            worker = Worker(desk, options=OPTIONS)

            @worker.turn()
            async def ask_around(turn: Turn) -> Any:
                return (await turn.children({"one": turn.child("expert", {"n": 5})}))["one"].payload

            return worker

        turn = await kernel.dispatch("desk", {})
        async with working(parent_worker()):
            await in_state(desk, turn, "suspended")
        await expert_at(expert).once()
        assert (await desk.turns.get(turn)).state == "suspended"
        async with working(parent_worker()):
            assert (await closed(desk, turn)).final_payload == {"square": 25}


@pytest.mark.parametrize("can_wait", [True, False])
async def test_many_parents_need_few_connections(
    kernel: LocalKernel, monkeypatch: pytest.MonkeyPatch, *, can_wait: bool
) -> None:
    """Of few the own feeds are watched, of many the project's; each goes on once its child is closed."""
    monkeypatch.setattr("cgworker.worker.resuming.child_waits._MAX_FEEDS", 3)
    if not can_wait:
        kernel.faults.ignore_preferences()
    async with await kernel.agent("desk") as desk, await kernel.agent("expert") as expert:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def ask(turn: Turn, n: int) -> Any:
            return (await turn.children({"one": turn.child("expert", {"n": n})}))["one"].payload["square"]

        turns = [await kernel.dispatch("desk", n) for n in range(8)]
        async with working(worker):
            for turn in turns:
                await in_state(desk, turn, "suspended")
            for turn in turns:  # from a crowd to few, and each is seen on its own
                await expert_at(expert).once(wait_seconds=5)
                await closed(desk, turn)
            turns = [await kernel.dispatch("desk", n) for n in range(8)]
            async with working(expert_at(expert)):
                assert [(await closed(desk, turn)).final_payload for turn in turns] == [
                    n * n for n in range(8)
                ]


async def test_no_waiting_parent_is_too_old_to_be_found(
    kernel: LocalKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of suspended turns has only the youngest, here those that wait for a person for ever."""
    monkeypatch.setattr("cgworker.worker.resuming.suspended._MAX_TURNS", 2)
    kinds = ["turn.conversation.v1", "turn.question.v1"]
    async with await kernel.agent("desk", kinds=kinds) as desk, await kernel.agent("expert") as expert:

        def desk_worker() -> Worker:
            worker = Worker(desk, options=OPTIONS)

            @worker.turn()
            async def ask(turn: Turn, n: int) -> Any:
                return (await turn.children({"one": turn.child("expert", {"n": n})}))["one"].payload

            @worker.turn("turn.question.v1")
            async def wait(turn: Turn) -> Any:
                return await turn.ask(bool, "May I?", key="one")

            return worker

        turns = [await kernel.dispatch("desk", n) for n in (2, 3)]
        questions = [await kernel.dispatch("desk", n, kind="turn.question.v1") for n in range(2)]
        async with working(desk_worker()):
            for turn in (*turns, *questions):
                await in_state(desk, turn, "suspended")
        for _ in turns:
            await expert_at(expert).once()
        async with working(desk_worker()):
            assert [(await closed(desk, turn)).final_payload["square"] for turn in turns] == [4, 9]


async def test_many_children_each_computed_once_whatever_becomes_of_the_workers(kernel: LocalKernel) -> None:
    """A fan-out whose workers are cut off again and again, in the middle of dispatching and of collecting."""
    count = 100
    runs: Counter[int] = Counter()
    async with await kernel.agent("desk") as desk, await kernel.agent("expert", capacity=8) as expert:

        async def ask_all(turn: Turn) -> Any:
            found = await turn.children({str(n): turn.child("expert", {"n": n}) for n in range(count)})
            return sum(result.payload["square"] for result in found.values())

        def parent_worker() -> Worker:
            worker = Worker(desk, options=OPTIONS)
            worker.turn()(ask_all)
            return worker

        turn = await kernel.dispatch("desk", {})
        async with working(expert_at(expert, runs)):
            for seconds in (0.15, 0.3, 0.6):
                with anyio.move_on_after(seconds):
                    async with working(parent_worker()):
                        await anyio.sleep_forever()
            async with working(parent_worker()):
                found = await closed(desk, turn, seconds=60)
        assert found.final_payload == sum(n**2 for n in range(count))
        assert runs == Counter(range(count))


@pytest.mark.parametrize("call", ["dispatch", "append", "suspend", "feed", "resume"])
async def test_a_lost_answer_makes_no_second_child(kernel: LocalKernel, call: str) -> None:
    """Whichever answer is dropped on the way, each child is there once."""
    async with await kernel.agent("desk") as desk, await kernel.agent("expert") as expert:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def ask_around(turn: Turn) -> Any:
            children = {"a": turn.child("expert", {"n": 2}), "b": turn.child("expert", {"n": 3})}
            return [result.payload["square"] for result in (await turn.children(children)).values()]

        turn = await kernel.dispatch("desk", {})
        kernel.faults.drop_response(call)
        async with working(worker), working(expert_at(expert)):
            assert (await closed(desk, turn, seconds=30)).final_payload == [4, 9]
        lineage = await desk.projections.lineage(turn.project_id, turn.turn_id)
        assert len(lineage.direct_children) == 2


async def test_a_name_stands_for_one_child(kernel: LocalKernel) -> None:
    """Giving it to another agent, or other work, is a mistake, and says so before anything is dispatched."""
    async with await kernel.agent("desk") as desk, await kernel.agent("expert") as expert:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def confused(turn: Turn) -> Any:
            await turn.children({"one": turn.child("expert", {"n": 1})})
            with pytest.raises(UsageError, match="another child needs another name"):
                await turn.children({"one": turn.child("desk", {"n": 1})})
            with pytest.raises(UsageError, match="another child needs another name"):
                await turn.children({"one": turn.child("expert", {"n": 2})})
            with pytest.raises(UsageError, match="first=2"):
                await turn.children({"one": turn.child("expert", {"n": 1})}, first=2)
            return "told"

        turn = await kernel.dispatch("desk", {})
        async with working(worker), working(expert_at(expert)):
            assert (await closed(desk, turn)).final_payload == "told"


async def test_what_the_children_decided_stands(kernel: LocalKernel) -> None:
    """A handler that catches all, makes it an error, or waits in a task group is suspended all the same."""
    kinds = ["turn.greedy.v1", "turn.wrapping.v1", "turn.grouped.v1"]
    async with await kernel.agent("desk", kinds=kinds) as desk, await kernel.agent("expert") as expert:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn("turn.wrapping.v1")
        async def wrapping(turn: Turn) -> Any:
            try:
                return (await turn.children({"one": turn.child("expert", {"n": 5})}))["one"].payload
            except BaseException as caught:
                raise RuntimeError("something is wrong") from caught

        @worker.turn("turn.greedy.v1")
        async def greedy(turn: Turn) -> Any:
            try:
                return (await turn.children({"one": turn.child("expert", {"n": 2})}))["one"].payload
            except BaseException:
                return "caught"

        @worker.turn("turn.grouped.v1")
        async def grouped(turn: Turn) -> Any:
            found: list[Any] = []

            async def wait(n: int) -> None:
                found.append((await turn.children({f"{n}": turn.child("expert", {"n": n})}))[f"{n}"].payload)

            async with anyio.create_task_group() as group:
                group.start_soon(wait, 2)
                group.start_soon(wait, 3)
            return sorted(each["square"] for each in found)

        async with working(worker), working(expert_at(expert)):
            first = await kernel.dispatch("desk", {}, kind="turn.greedy.v1")
            second = await kernel.dispatch("desk", {}, kind="turn.wrapping.v1")
            third = await kernel.dispatch("desk", {}, kind="turn.grouped.v1")
            assert (await closed(desk, first)).final_payload == {"square": 4}
            assert (await closed(desk, second)).final_payload == {"square": 25}
            assert (await closed(desk, third)).final_payload == [4, 9]


async def test_children_can_be_waited_for_in_several_tasks(kernel: LocalKernel) -> None:
    """Each task gets all of its own, although they read the same events at the same time."""
    async with await kernel.agent("desk") as desk, await kernel.agent("expert", capacity=4) as expert:
        worker = Worker(desk, options=OPTIONS)

        @worker.turn()
        async def ask_in_groups(turn: Turn) -> Any:
            found: dict[str, int] = {}

            async def wait(*numbers: int) -> None:
                wanted = {str(n): turn.child("expert", {"n": n}) for n in numbers}
                for name, result in (await turn.children(wanted)).items():
                    found[name] = result.payload["square"]

            async with anyio.create_task_group() as group:
                for first in (1, 3, 5, 7):
                    group.start_soon(wait, first, first + 1)
            return found

        turn = await kernel.dispatch("desk", {})
        async with working(worker), working(expert_at(expert)):
            found = await closed(desk, turn)
        assert found.final_payload == {str(n): n * n for n in range(1, 9)}


async def test_middleware_may_wait_too(kernel: LocalKernel) -> None:
    """Whatever unwinds it ends its turn's attempt, and not the worker."""
    async with await kernel.agent("desk") as desk, await kernel.agent("expert") as expert:
        worker = Worker(desk, options=OPTIONS)

        @worker.middleware
        async def be_advised(turn: Turn, call_next: Handler) -> Any:
            async with anyio.create_task_group() as group:
                group.start_soon(turn.children, {"advice": turn.child("expert", {"n": 4})})
            return await call_next(turn)

        @worker.turn()
        async def work(_: Turn) -> str:
            return "done"

        turn = await kernel.dispatch("desk", {})
        async with working(worker), working(expert_at(expert)):
            assert (await closed(desk, turn)).final_payload == "done"


async def test_a_stopped_parent_does_not_wait_for_its_children(kernel: LocalKernel) -> None:
    """A suspended turn cannot be stopped by anybody but its own agent's worker, which hears of it at once."""
    async with await kernel.agent("desk") as desk:
        await kernel.agent("sleeper")
        witness = Witness()
        worker = Worker(desk, options=OPTIONS, listener=witness)

        @worker.turn()
        async def wait(turn: Turn) -> Any:
            return await turn.children({"one": turn.child("sleeper", {})})

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await in_state(desk, turn, "suspended")
            await desk.turns.stop(turn, requested_by=desk.agent)  # type: ignore[arg-type]
            assert (await closed(desk, turn)).outcome == "stopped"
        assert [event.reason for event in witness.of(TurnResumed)] == ["await_children"]
        assert "turn.stop_requested" in await history(desk, turn)


async def test_stopping_a_parent_stops_its_children_where_that_was_asked_for(kernel: LocalKernel) -> None:
    """Running, suspended and queued ones: each is asked to stop (nanobot #1762, openai-agents #574)."""
    async with (
        await kernel.agent("desk", grants=["turn.stop.any"]) as desk,
        await kernel.agent("helper") as helper,
        await kernel.agent("sleeper") as sleeper,
    ):
        desk_worker = Worker(desk, options=evolve(OPTIONS, stop_children=True))
        helper_worker = Worker(helper, options=OPTIONS)
        started = anyio.Event()

        @desk_worker.turn()
        async def delegate(turn: Turn) -> Any:
            return await turn.children(
                {"busy": turn.child("helper", {}), "queued": turn.child("sleeper", {})}
            )

        @helper_worker.turn()
        async def work(_: Turn) -> None:
            started.set()
            await anyio.sleep_forever()

        turn = await kernel.dispatch("desk", {})
        async with working(desk_worker), working(helper_worker):
            await started.wait()
            await in_state(desk, turn, "suspended")
            await desk.turns.stop(turn, requested_by=desk.agent)  # type: ignore[arg-type]
            assert (await closed(desk, turn)).outcome == "stopped"
            children = await desk.projections.lineage(turn.project_id, turn.turn_id)
            busy, queued = (
                TurnRef(project_id=turn.project_id, turn_id=child.turn_id)
                for child in children.direct_children
            )
            assert (await closed(desk, busy)).outcome == "stopped"
        assert (await sleeper.turns.get(queued)).stop_requested


async def test_without_the_right_to_stop_them_the_children_go_on_and_it_is_said(
    kernel: LocalKernel, caplog: pytest.LogCaptureFixture
) -> None:
    """The parent is stopped all the same, and nobody insists."""
    async with await kernel.agent("desk") as desk:
        await kernel.agent("sleeper")
        worker = Worker(desk, options=evolve(OPTIONS, stop_children=True))

        @worker.turn()
        async def delegate(turn: Turn) -> Any:
            return await turn.children({str(n): turn.child("sleeper", {}) for n in range(3)})

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await in_state(desk, turn, "suspended")
            await desk.turns.stop(turn, requested_by=desk.agent)  # type: ignore[arg-type]
            assert (await closed(desk, turn)).outcome == "stopped"
        said = [record for record in caplog.records if "turn.stop.any" in record.getMessage()]
        assert len(said) == 1
        assert kernel.faults.seen["stop"] == 1 + 3


async def test_an_outage_keeps_no_child_from_being_stopped(kernel: LocalKernel) -> None:
    """It is asked for until it is answered, before the parent is closed: who dies leaves it to the next."""
    async with (
        await kernel.agent("desk", grants=["turn.stop.any"]) as desk,
        await kernel.agent("sleeper") as sleeper,
    ):
        worker = Worker(desk, options=evolve(OPTIONS, stop_children=True))

        @worker.turn()
        async def delegate(turn: Turn) -> Any:
            return await turn.children({str(n): turn.child("sleeper", {}) for n in range(3)})

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await in_state(desk, turn, "suspended")
            await desk.turns.stop(turn, requested_by=desk.agent)  # type: ignore[arg-type]
            kernel.faults.drop_response("stop")
            assert (await closed(desk, turn)).outcome == "stopped"
        queued = (await sleeper.projections.turns(turn.project_id, target_agent_id="sleeper")).items
        assert [child.stop_requested for child in queued] == [True] * 3


async def test_a_child_follows_its_parent_where_that_was_asked_for(kernel: LocalKernel) -> None:
    """Its result would interest nobody any more: the handler is told `parent_closed`, the turn is stopped."""
    async with await kernel.agent("desk") as desk, await kernel.agent("helper", capacity=2) as helper:
        desk_worker = Worker(desk, options=OPTIONS)
        witness = Witness()
        options = evolve(OPTIONS, follow_parent=True, concurrency=2)
        helper_worker = Worker(helper, options=options, listener=witness)
        started = anyio.Event()

        @desk_worker.turn()
        async def leave(turn: Turn) -> str:
            ref = await turn.dispatch("helper", {}, key="one")
            await started.wait()
            return ref.turn_id

        @helper_worker.turn()
        async def work(_: Turn) -> None:
            started.set()
            await anyio.sleep_forever()

        turn = await kernel.dispatch("desk", {})
        async with working(desk_worker), working(helper_worker):
            found = await closed(desk, turn)
            child = TurnRef(project_id=turn.project_id, turn_id=found.final_payload)
            assert (await closed(desk, child)).outcome == "stopped"
        assert [event.reason for event in witness.of(TurnInterrupted)] == ["parent_closed"]


async def test_a_parent_done_again_has_the_children_of_the_first_time(
    kernel: LocalKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed ones give their results, open ones are waited for; none is dispatched again (difference 34)."""
    monkeypatch.setattr("cgworker.durable.children._LOOK_AGAIN_SECONDS", 0.5)
    async with await kernel.agent("desk") as desk, await kernel.agent("expert") as expert:
        worker, runs, is_mended = Worker(desk, options=OPTIONS), Counter[int](), list[bool]()

        @worker.turn()
        async def ask_around(turn: Turn) -> Any:
            wanted = {str(n): turn.child("expert", {"n": n}) for n in (2, 3)}
            found = await turn.children(wanted, first=None if is_mended else 1)
            if not is_mended:
                raise RuntimeError("a fault of the handler")
            return {name: result.payload["square"] for name, result in found.items()}

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await in_state(desk, turn, "suspended")
            assert await expert_at(expert, runs).once() is not None
            assert (await closed(desk, turn)).outcome == "failed"
            is_mended.append(True)
            again = await desk.turns.redo(turn, keep_steps=True)
            await in_state(desk, again, "suspended")  # the other child is still open
            assert await expert_at(expert, runs).once() is not None
            assert (await closed(desk, again)).final_payload == {"2": 4, "3": 9}
            third = await desk.turns.redo(again, keep_steps=True)
            assert (await closed(desk, third)).final_payload == {"2": 4, "3": 9}
        assert runs == {2: 1, 3: 1}
