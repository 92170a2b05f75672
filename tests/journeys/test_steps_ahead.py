"""Private steps that a handler goes on ahead of: what waits for them, and what is found after a crash."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import (
    FolderStore,
    KernelClient,
    ObjectStore,
    Retries,
    Turn,
    TurnRef,
    Worker,
    WorkerOptions,
    suspend,
)
from cgworker.testing import LocalKernel
from tests.journeys.conftest import closed, history, in_state, working
from tests.kernels import NewProject

_FOR_EVER = 10**6


@pytest.fixture
async def kernel(new_project: NewProject) -> AsyncIterator[LocalKernel]:
    """A kernel whose leases end when a test says so."""
    async with new_project(lease_seconds=30.0, reaper_seconds=0.1) as kernel:
        yield kernel


def options(store: Any, **more: Any) -> WorkerOptions:
    return WorkerOptions(concurrency=1, wait_seconds=5, private_store=store, **more)


async def steps(desk: KernelClient, turn: TurnRef) -> list[str]:
    """The keys of the public steps."""
    records = [item async for item in desk.turns.records(turn)]
    return [item.payload["key"] for item in records if item.record.record_role == "step"]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


class Slow(FolderStore):
    """A store that keeps a value back until it may go on."""

    def __init__(self, folder: Path, *, held: int = 1) -> None:
        super().__init__(folder)
        self.has_come = anyio.Event()
        self.may_go_on = anyio.Event()
        self._held = held

    async def put(self, name: str, data: bytes) -> None:
        self._held -= 1
        if self._held >= 0:
            self.has_come.set()
            with anyio.CancelScope(shield=True):  # as a thread cannot be cancelled
                await self.may_go_on.wait()
                await super().put(name, data)
            return
        await super().put(name, data)


class Counting(FolderStore):
    """A store that tells when it has a number of values."""

    def __init__(self, folder: Path, *, most: int) -> None:
        super().__init__(folder)
        self.has_all = anyio.Event()
        self._most = most

    async def put(self, name: str, data: bytes) -> None:
        await super().put(name, data)
        self._most -= 1
        if self._most == 0:
            self.has_all.set()


class Full(FolderStore):
    """A store without space."""

    async def put(self, name: str, data: bytes) -> None:  # noqa: ARG002
        raise OSError(28, "No space left on device")


class Plain:
    """A store that cannot say what it has."""

    def __init__(self, folder: Path) -> None:
        inner = FolderStore(folder)
        self.put, self.get, self.delete = inner.put, inner.get, inner.delete


# ---------------------------------------------------------------- what waits, and for what


async def test_the_first_record_of_a_turn_is_waited_for_by_the_next_step(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """It tells a worker without the values that there are some."""
    public: list[list[str]] = []
    async with await kernel.agent("desk") as desk, await kernel.agent("reader") as reader:
        turn = await kernel.dispatch("desk", {})
        kernel.faults.answer("append", 503, times=_FOR_EVER)
        worker = Worker(desk, options=options(FolderStore(tmp_path / "private")))

        @worker.turn()
        async def work(turn: Turn) -> None:
            async def make() -> None:
                public.append(await steps(reader, turn.ref))
                if len(public) == 2:
                    kernel.faults.clear()

            for number in range(3):
                await turn.once(f"{number}", make, private=True, ahead=True)

        async with working(worker):
            assert (await closed(desk, turn)).outcome == "succeeded"
        assert public[:2] == [[], []]
        assert "0" in public[2]
        assert await steps(desk, turn) == ["0", "1", "2"]


async def test_a_handler_goes_on_ahead_of_nine_records_and_no_more(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """After the first one: nine steps are done while the kernel takes no record, and the tenth waits."""
    made: list[int] = []
    is_held = anyio.Event()
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        worker = Worker(desk, options=options(FolderStore(tmp_path / "private")))

        @worker.turn()
        async def work(turn: Turn) -> None:
            await turn.once("0", lambda: 0, private=True)
            kernel.faults.answer("append", 503, times=_FOR_EVER)
            for number in range(1, 15):
                await turn.once(f"{number}", partial(made.append, number), private=True, ahead=True)
                if number == 9:
                    is_held.set()

        async with working(worker):
            await is_held.wait()
            await in_state(desk, turn, "running")
            assert len(made) <= 10
            assert await steps(desk, turn) == ["0"]
            kernel.faults.clear()
            assert (await closed(desk, turn)).outcome == "succeeded"
        assert await steps(desk, turn) == [f"{number}" for number in range(15)]


class Unsynced:
    """Holds the syncs of small values back until they may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.has_come = threading.Event()
        self.may_go_on = threading.Event()
        self.is_broken = False
        monkeypatch.setattr("cgworker.stores.segments._sync_data", self._sync)

    def _sync(self, _descriptor: int) -> None:
        self.has_come.set()
        self.may_go_on.wait()
        if self.is_broken:
            raise OSError(5, "Input/output error")


@asynccontextmanager
async def working_in(
    kernel: LocalKernel, folder: Path, work: Callable[[Turn], Awaitable[Any]]
) -> AsyncIterator[tuple[KernelClient, TurnRef]]:
    """A turn whose private values are in a folder, and a client of its agent, while a worker works it."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        worker = Worker(desk, options=options(FolderStore(folder)))
        worker.turn()(work)
        async with working(worker):
            yield desk, turn


@pytest.mark.parametrize("acts", [True, False])
async def test_only_a_step_without_effects_begins_before_the_value_before_it_is_synced(
    acts: bool, kernel: LocalKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut, a tool must not have acted on an answer that is lost."""
    disk = Unsynced(monkeypatch)
    seen: list[str] = []

    async def work(turn: Turn) -> None:
        await turn.once("a", lambda: 1, private=True, ahead=True)
        await turn.once("b", lambda: seen.append("b"), private=True, ahead=True, acts=acts)

    async with working_in(kernel, tmp_path / "private", work) as (desk, turn):
        await anyio.to_thread.run_sync(disk.has_come.wait)
        await in_state(desk, turn, "running")
        assert await steps(desk, turn) == []  # no record says that it is stored
        seen.append("synced")
        disk.may_go_on.set()
        await closed(desk, turn)
        assert await steps(desk, turn) == ["a", "b"]
    assert seen == (["synced", "b"] if acts else ["b", "synced"])


async def test_a_step_whose_value_cannot_be_synced_gets_no_record(
    kernel: LocalKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the one that was done meanwhile; the failure is that of the turn."""
    disk = Unsynced(monkeypatch)
    disk.is_broken = True

    async def work(turn: Turn) -> None:
        await turn.once("a", lambda: 1, private=True, ahead=True)
        await turn.once("b", disk.may_go_on.set, private=True, ahead=True, acts=False)

    async with working_in(kernel, tmp_path / "private", work) as (desk, turn):
        assert (await closed(desk, turn)).final_payload["type"] == "OSError"
        assert await steps(desk, turn) == []


async def test_a_large_value_is_not_on_the_disk_before_a_small_one_that_was_made_before_it(
    kernel: LocalKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else a power cut could leave it alone."""
    disk = Unsynced(monkeypatch)

    async def work(turn: Turn) -> str:
        await turn.once("a", lambda: 1, private=True, ahead=True)
        await turn.once("b", lambda: "b" * 100_000, private=True, ahead=True, acts=False)
        return "went on"

    async with working_in(kernel, tmp_path / "private", work) as (desk, turn):
        await anyio.to_thread.run_sync(disk.has_come.wait)
        await in_state(desk, turn, "running")
        assert len(files(tmp_path / "private")) == 1
        disk.may_go_on.set()
        assert (await closed(desk, turn)).final_payload == "went on"


async def test_a_value_without_a_record_is_synced_before_it_gets_one(
    kernel: LocalKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker that wrote it may have died before it could."""
    store = FolderStore(tmp_path / "private")
    async with await kernel.agent("desk") as desk:
        turn, made = await in_doubt(kernel, desk, store)
        disk = Unsynced(monkeypatch)
        async with working(going_on(desk, FolderStore(tmp_path / "private"), made, "a")):
            await anyio.to_thread.run_sync(disk.has_come.wait)
            await in_state(desk, turn, "running")
            assert await steps(desk, turn) == []
            disk.may_go_on.set()
            assert (await closed(desk, turn)).final_payload == ["a1"]
    assert made == ["a"]


async def test_a_store_derived_from_a_folder_sees_all_values(kernel: LocalKernel, tmp_path: Path) -> None:
    """It may encrypt them, for instance."""
    slow = Slow(tmp_path / "private", held=0)
    seen: list[str] = []

    async def put(name: str, data: bytes) -> None:
        seen.append(name)
        await FolderStore.put(slow, name, data)

    slow.put = put  # type: ignore[method-assign]  # as a derived class would define it
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        async with working(going_on(desk, slow, [], "ab")):
            await closed(desk, turn)
    assert len(seen) == 2


async def test_a_step_begins_only_when_the_value_before_it_is_stored(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """Otherwise it could act on a value that nobody will find again."""
    slow = Slow(tmp_path / "private")
    seen: list[str] = []
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        worker = Worker(desk, options=options(slow))

        @worker.turn()
        async def work(turn: Turn) -> None:
            await turn.once("a", lambda: 1, private=True, ahead=True)
            seen.append("went on")
            await turn.once("b", lambda: seen.append("b"), private=True, ahead=True)

        async with working(worker):
            await slow.has_come.wait()
            await in_state(desk, turn, "running")
            seen.append("stored")
            slow.may_go_on.set()
            await closed(desk, turn)
    assert seen == ["went on", "stored", "b"]


@pytest.mark.parametrize("kind", ["plain", "no key"])
async def test_a_store_that_cannot_find_values_without_records_makes_the_handler_wait(
    kind: str, kernel: LocalKernel, tmp_path: Path
) -> None:
    """A value that anybody could have put there is only believed with its digest."""
    store: Any = Plain(tmp_path / "private")
    if kind == "no key":
        store = ObjectStore((tmp_path / "objects").as_uri())
        store._folder = None  # noqa: SLF001  # as one that is no folder
    public: list[list[str]] = []
    async with await kernel.agent("desk") as desk, await kernel.agent("reader") as reader:
        turn = await kernel.dispatch("desk", {})
        kernel.faults.answer("append", 503)
        worker = Worker(desk, options=options(store))

        @worker.turn()
        async def work(turn: Turn) -> None:
            await turn.once("a", lambda: 1, private=True, ahead=True)
            public.append(await steps(reader, turn.ref))

        async with working(worker):
            await closed(desk, turn)
    assert public == [["a"]]


async def test_a_step_without_ahead_waits_for_its_own_record(kernel: LocalKernel, tmp_path: Path) -> None:
    """What its handler does next may be more than steps."""
    public: list[list[str]] = []
    async with await kernel.agent("desk") as desk, await kernel.agent("reader") as reader:
        turn = await kernel.dispatch("desk", {})
        kernel.faults.answer("append", 503)
        worker = Worker(desk, options=options(FolderStore(tmp_path / "private")))

        @worker.turn()
        async def work(turn: Turn) -> None:
            await turn.once("a", lambda: 1, private=True)
            public.append(await steps(reader, turn.ref))

        async with working(worker):
            await closed(desk, turn)
    assert public == [["a"]]


async def _record(turn: Turn) -> None:
    await turn.record({})


async def _ask(turn: Turn) -> None:
    await turn.ask(bool, "Well?", key="q")


async def _sleep(turn: Turn) -> None:
    await turn.sleep(60, key="nap")


async def _dispatch(turn: Turn) -> None:
    await turn.dispatch("other", {}, key="child")


async def _step(turn: Turn) -> None:
    await turn.once("public", lambda: 1)


async def _finish(turn: Turn) -> None:
    del turn


async def _suspend(turn: Turn) -> Any:
    del turn
    return suspend("later")


@pytest.mark.parametrize("then", [_record, _ask, _sleep, _dispatch, _step, _finish, _suspend])
async def test_what_comes_next_waits_for_the_record_and_meets_a_failure(
    then: Callable[[Turn], Awaitable[Any]], kernel: LocalKernel, tmp_path: Path
) -> None:
    """With a store that fails, none of it happens; with one that works, it comes after the step."""
    async with await kernel.agent("desk") as desk, await kernel.agent("other"):
        for store in (Full(tmp_path), FolderStore(tmp_path / "private")):
            turn = await kernel.dispatch("desk", {})
            worker = Worker(desk, options=options(store))

            @worker.turn()
            async def work(turn: Turn) -> Any:
                await turn.once("a", lambda: 1, private=True, ahead=True)
                return await then(turn)

            async with working(worker):
                if isinstance(store, Full):
                    found = await closed(desk, turn)
                    assert found.final_payload["type"] == "OSError"
                    happened = await history(desk, turn)
                    assert (happened.count("turn.spawned"), "turn.suspended" in happened) == (1, False)
                    assert len([item async for item in desk.turns.records(turn)]) == 2  # input and final
                else:
                    await in_state(desk, turn, "suspended" if then in (_ask, _sleep, _suspend) else "closed")
        events = await history(desk, turn)
        records = [item.record.record_role async for item in desk.turns.records(turn)]
    assert records[1] == "step"
    assert events.index("turn.progress_appended") == 3


async def test_the_records_of_parallel_steps_are_in_the_order_of_their_ends(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """And one that is written meanwhile comes after those of the steps that were done before it."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        slow = Slow(tmp_path / "private")
        ended: list[str] = []
        worker = Worker(desk, options=options(slow))

        @worker.turn()
        async def work(turn: Turn) -> None:
            async with anyio.create_task_group() as tasks:
                for key in "abc":
                    tasks.start_soon(_one, turn, key, ended)
                await slow.has_come.wait()
                slow.may_go_on.set()
            await turn.record({}, "after")

        async with working(worker):
            await closed(desk, turn)
        records = [item async for item in desk.turns.records(turn)]
    assert [item.payload.get("key") for item in records[1:]] == [*ended, None]


async def _one(turn: Turn, key: str, ended: list[str], *, ahead: bool = True) -> None:
    await turn.once(key, lambda: ended.append(key), private=True, ahead=ahead)


async def test_parallel_steps_without_ahead_do_not_wait_for_the_records_of_each_other(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """All values are stored while the kernel takes no record; then the records come in order."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        store = Counting(tmp_path / "private", most=3)
        kernel.faults.answer("append", 503, times=_FOR_EVER)
        ended: list[str] = []
        worker = Worker(desk, options=options(store))

        @worker.turn()
        async def work(turn: Turn) -> None:
            async with anyio.create_task_group() as tasks:
                for key in "abc":
                    tasks.start_soon(partial(_one, turn, key, ended, ahead=False))
                await store.has_all.wait()
                kernel.faults.clear()

        async with working(worker):
            with anyio.fail_after(10):
                await store.has_all.wait()
            await closed(desk, turn)
        assert await steps(desk, turn) == ended


# ---------------------------------------------------------------- the end of a turn


@pytest.mark.parametrize("ahead", [True, False])
async def test_a_value_that_is_written_when_the_turn_is_stopped_is_removed_too(
    ahead: bool, kernel: LocalKernel, tmp_path: Path
) -> None:
    """Its write goes on though the handler is cancelled; removed before its end, it would stay for ever."""
    slow = Slow(tmp_path / "private")
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        worker = Worker(desk, options=options(slow, renew_seconds=0.1))

        @worker.turn()
        async def work(turn: Turn) -> None:
            try:
                await turn.once("a", lambda: 1, private=True, ahead=ahead)
                await anyio.sleep_forever()
            finally:
                slow.may_go_on.set()

        async with working(worker):
            await slow.has_come.wait()
            await desk.turns.stop(turn, requested_by=desk.agent)  # type: ignore[arg-type]
            assert (await closed(desk, turn)).outcome == "stopped"
    assert files(tmp_path / "private") == []


@pytest.mark.parametrize("ahead", [True, False])
async def test_a_handed_back_turn_keeps_the_step_that_was_being_written(
    ahead: bool, kernel: LocalKernel, tmp_path: Path
) -> None:
    """The next worker need not look for it: its record comes before the suspension."""
    slow = Slow(tmp_path / "private")
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        worker = Worker(desk, options=options(slow, grace_seconds=0))

        @worker.turn()
        async def work(turn: Turn) -> None:
            try:
                await turn.once("a", lambda: 1, private=True, ahead=ahead)
                await anyio.sleep_forever()
            finally:
                slow.may_go_on.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            await slow.has_come.wait()
            worker.drain()
        events = await history(desk, turn)
    assert events.index("turn.progress_appended") < events.index("turn.suspended")


async def test_values_without_records_are_removed_with_the_turn(kernel: LocalKernel, tmp_path: Path) -> None:
    """Also by an attempt that came to no step."""
    store = FolderStore(tmp_path / "private")
    async with await kernel.agent("desk") as desk:
        turn, _ = await in_doubt(kernel, desk, store)
        assert len(files(tmp_path / "private")) == 1
        worker = Worker(desk, options=options(store))

        @worker.turn()
        async def work(turn: Turn) -> int:
            return turn.attempt

        async with working(worker):
            assert (await closed(desk, turn)).final_payload == 2
    assert files(tmp_path / "private") == []


# ---------------------------------------------------------------- after a crash


async def in_doubt(
    kernel: LocalKernel, desk: KernelClient, store: Any, *, keys: str = "a"
) -> tuple[TurnRef, list[str]]:
    """A turn whose worker lost its lease after these steps; the last one's record never came."""
    made: list[str] = []
    turn = await kernel.dispatch("desk", {})
    await lose(kernel, desk, turn, store, made, keys)
    return turn, made


async def lose(
    kernel: LocalKernel, desk: KernelClient, turn: TurnRef, store: Any, made: list[str], keys: str
) -> None:
    """Work the turn up to these steps, and lose its lease before the record of the last one."""
    worker = Worker(desk, options=options(store, renew_seconds=0.2))
    is_there, is_lost = anyio.Event(), anyio.Event()

    def make(key: str) -> str:
        made.append(key)
        return f"{key}{len(made)}"

    @worker.turn()
    async def work(turn: Turn) -> None:
        for key in keys:
            if key == keys[-1]:
                await turn.records()
                kernel.faults.answer("append", 503, times=_FOR_EVER)
            await turn.once(key, partial(make, key), private=True, ahead=True)
        with suppress(Exception):
            await turn.writes.stored()
        is_there.set()
        try:
            await anyio.sleep_forever()
        finally:
            is_lost.set()

    async with working(worker):
        await is_there.wait()
        await kernel.faults.steal_lease(turn)
        await is_lost.wait()
        worker.drain()
    kernel.faults.clear()


def going_on(desk: KernelClient, store: Any, made: list[str], keys: str, **more: Any) -> Worker:
    """A worker that makes these steps, and answers with their values."""
    worker = Worker(desk, options=options(store, **more))

    @worker.turn()
    async def work(turn: Turn) -> list[str]:
        def make(key: str) -> str:
            made.append(key)
            return f"{key}{len(made)}"

        return [await turn.once(key, partial(make, key), private=True, ahead=True) for key in keys]

    return worker


async def test_a_step_whose_record_never_came_is_found_in_the_store(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """And its record is made up for, before that of the next step."""
    store = FolderStore(tmp_path / "private")
    async with await kernel.agent("desk") as desk:
        turn, made = await in_doubt(kernel, desk, store, keys="ab")
        assert await steps(desk, turn) == ["a"]
        async with working(going_on(desk, store, made, "abc")):
            assert (await closed(desk, turn)).final_payload == ["a1", "b2", "c3"]
        assert made == ["a", "b", "c"]
        assert await steps(desk, turn) == ["a", "b", "c"]
    assert files(tmp_path / "private") == []


async def test_on_another_machine_only_the_step_without_a_record_is_done_again(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """A folder that is not shared: the value before it has a record, and is missed as ever."""
    async with await kernel.agent("desk") as desk:
        turn, made = await in_doubt(kernel, desk, FolderStore(tmp_path / "one"))
        async with working(going_on(desk, FolderStore(tmp_path / "other"), made, "ab")):
            assert (await closed(desk, turn)).final_payload == ["a2", "b3"]
        second, made = await in_doubt(kernel, desk, FolderStore(tmp_path / "one"), keys="ab")
        async with working(going_on(desk, FolderStore(tmp_path / "other"), made, "ab")):
            await in_state(desk, second, "suspended")
        assert made == ["a", "b"]


@pytest.mark.parametrize("damage", ["changed", "cut", "of another turn"])
async def test_a_value_that_is_not_what_was_stored_is_not_taken(
    damage: str, kernel: LocalKernel, tmp_path: Path
) -> None:
    """Its name is its digest; a crash of the machine can leave half a file."""
    store = FolderStore(tmp_path / "private")
    async with await kernel.agent("desk") as desk:
        turn, made = await in_doubt(kernel, desk, store)
        [kept] = files(tmp_path / "private")
        if damage == "of another turn":
            kept.rename(kept.with_name("0" * 64))
        else:
            kept.write_bytes(kept.read_bytes()[:-4] + (b'x1"]' if damage == "changed" else b""))
        async with working(going_on(desk, store, made, "a")):
            assert (await closed(desk, turn)).final_payload == ["a2"]


async def test_of_two_values_without_a_record_that_of_the_later_claim_counts(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """An attempt that lost its lease may store its value late; the next one has gone on with its own."""
    store, first = FolderStore(tmp_path / "private"), FolderStore(tmp_path / "late")
    async with await kernel.agent("desk") as desk:
        turn, made = await in_doubt(kernel, desk, first)
        await lose(kernel, desk, turn, store, made, "a")
        assert made == ["a", "a"]
        for late in files(tmp_path / "late"):
            there = tmp_path / "private" / late.relative_to(tmp_path / "late")
            there.write_bytes(late.read_bytes())
        assert len(files(tmp_path / "private")) == 2
        async with working(going_on(desk, store, made, "a")):
            assert (await closed(desk, turn)).final_payload == ["a2"]
    assert files(tmp_path / "private") == []


async def test_a_late_value_does_not_disturb_a_step_that_has_a_record(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """Each value has a name of its own."""
    store, first = FolderStore(tmp_path / "private"), FolderStore(tmp_path / "late")
    async with await kernel.agent("desk") as desk:
        turn, made = await in_doubt(kernel, desk, first)
        await lose(kernel, desk, turn, store, made, "ab")
        assert await steps(desk, turn) == ["a"]
        for late in files(tmp_path / "late"):
            there = tmp_path / "private" / late.relative_to(tmp_path / "late")
            there.write_bytes(late.read_bytes())
        async with working(going_on(desk, store, made, "ab")):
            assert (await closed(desk, turn)).final_payload == ["a2", "b3"]
        assert made == ["a", "a", "b"]


async def test_a_step_that_was_done_again_is_found_like_any_other(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """With `redo`, its first record has a value that is gone."""
    store = FolderStore(tmp_path / "private")
    async with await kernel.agent("desk") as desk:
        turn, made = await in_doubt(kernel, desk, store, keys="ab")
        gone = [path for path in files(tmp_path / "private") if b'"a"' in path.read_bytes()]
        for path in gone:
            path.unlink()
        redo = going_on(desk, store, made, "a", on_private_missing="redo")
        kernel.faults.answer("append", 503, times=_FOR_EVER)
        async with working(redo):
            await in_state(desk, turn, "running")
            with anyio.fail_after(60):
                while not any(b'"a"' in path.read_bytes() for path in files(tmp_path / "private")):
                    await desk.turns.get(turn)
            await kernel.faults.steal_lease(turn)
            kernel.faults.clear()
            assert (await closed(desk, turn)).final_payload == ["a3"]
        assert made == ["a", "b", "a"]


async def test_a_retry_finds_the_step_before_it(kernel: LocalKernel, tmp_path: Path) -> None:
    """Its record is in before the turn is suspended for a while."""
    store = FolderStore(tmp_path / "private")
    made: list[str] = []
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        chosen = options(store, retries=Retries(count=1, first_seconds=0.1))
        worker = Worker(desk, options=chosen)

        @worker.turn()
        async def work(turn: Turn) -> str:
            await turn.once("a", lambda: made.append("a"), private=True, ahead=True)
            if len(made) == 1:
                made.append("failed")
                raise RuntimeError("once")
            return "done"

        async with working(worker):
            assert (await closed(desk, turn)).final_payload == "done"
        events = await history(desk, turn)
    assert made == ["a", "failed"]
    assert events.index("turn.progress_appended") < events.index("turn.suspended")
