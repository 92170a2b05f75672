"""Results on their way to the disk: written together, dropped in time, and never in anybody's way."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from cgworker import succeed
from cgworker.private import write_private
from cgworker.worker.outbox import batch_files, files, writer
from cgworker.worker.outbox.keeper import ResultKeeper
from cgworker.worker.outbox.outbox import Outbox
from tests.turns import make_turn


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox", max_bytes=100_000_000)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The suffixes of what was synced; a folder has none."""
    real, names = os.fsync, list[str]()

    def fsync(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().suffix)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return names


@contextmanager
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each write begun within the block goes on after it."""
    real, may_go_on = write_private, threading.Event()

    def write(path: Path, data: bytes, *, sync: bool = False) -> None:
        may_go_on.wait(20)
        real(path, data, sync=sync)

    monkeypatch.setattr(files, "write_private", write)
    try:
        yield
    finally:
        may_go_on.set()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


async def test_results_of_one_moment_cost_one_file_and_two_syncs(
    outbox: Outbox, tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of 32 KB: sixteen that waited for the disk are one file, and one sync of the folder."""
    turns = [make_turn(turn_id=f"T-{number}") for number in range(17)]
    with slow_disk(monkeypatch):
        results = [outbox.begin(turn, succeed("x" * 32_768)) for turn in turns]
        await until_taken(tmp_path / "outbox")
    entries = [await outbox.wait(result) for result in results]
    assert len({entry.path for entry in entries}) <= 2
    assert sorted(synced) == sorted([".tmp", ""] * len({entry.path for entry in entries}))
    for turn, result in zip(turns, results, strict=True):
        found = Outbox(tmp_path / "outbox", max_bytes=0).find(turn)
        assert found is not None
        assert found.outcome == succeed("x" * 32_768)
        outbox.drop(turn.ref, result)
    await outbox.flush()
    assert names_in(tmp_path / "outbox") == []


async def until_taken(folder: Path) -> None:
    """Wait until the thread has begun: it makes the folder first."""
    with anyio.fail_after(60):
        while not folder.exists():  # noqa: ASYNC110, ASYNC240  # made by a thread
            await anyio.sleep(0.01)


async def test_what_is_in_the_folder_is_counted_once_a_second(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before each write: that would be two more system calls for each file that is there."""
    counted, files_in = list[Path](), vars(files)["_files_in"]

    def count(folder: Path) -> Any:
        counted.append(folder)
        return files_in(folder)

    monkeypatch.setattr(files, "_files_in", count)
    monkeypatch.setattr(files, "_COUNT_SECONDS", 1000)
    for number in range(10):
        await outbox.put(make_turn(turn_id=f"T-{number}"), succeed(number))
    assert len(counted) == 2  # the folder, and the dead letters in it
    shutil.rmtree(tmp_path / "outbox")
    assert (await outbox.put(make_turn(turn_id="T-10"), succeed(10))).path.exists()


async def test_what_is_dropped_before_it_is_written_never_is(
    outbox: Outbox, tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel was quicker than the disk."""
    with slow_disk(monkeypatch):
        first, second = make_turn(turn_id="T-1"), make_turn(turn_id="T-2")
        being_written = outbox.begin(first, succeed(1))
        await until_taken(tmp_path / "outbox")
        waits = outbox.begin(second, succeed(2))
        outbox.drop(first.ref, being_written)
        outbox.drop(second.ref, waits)
    await outbox.flush()
    assert names_in(tmp_path / "outbox") == []
    assert len(synced) <= 4


async def test_what_is_never_written_is_forgotten(outbox: Outbox) -> None:
    """Else a worker whose kernel is quick would grow by each turn, and look through all of them at each."""
    turn = make_turn()
    results = [outbox.begin(turn, succeed(1), delay_seconds=1000) for _ in range(10)]
    known = [weakref.ref(result) for result in results]
    while results:
        outbox.drop(turn.ref, results.pop())
    assert [each for each in known if each() is not None] == []
    await outbox.flush()


async def test_a_flush_does_not_wait_for_what_was_dropped(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a worker whose last result is dropped before its write would end ten seconds later."""
    monkeypatch.setattr(writer, "_IDLE_SECONDS", 1000)
    turn = make_turn()
    result = outbox.begin(turn, succeed(1), delay_seconds=1000)
    await anyio.sleep(0.1)  # the thread waits for the write's time
    outbox.drop(turn.ref, result)
    with anyio.fail_after(5):
        await outbox.flush()


async def test_results_of_one_file_are_removed_together(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although their turns end one after the other: a mark for each of them would be a write for each."""
    turns = [make_turn(turn_id=f"T-{number}") for number in range(17)]
    with slow_disk(monkeypatch):
        results = [outbox.begin(turn, succeed(1)) for turn in turns]
        await until_taken(tmp_path / "outbox")
    for result in results:
        await outbox.wait(result)
    marked = list[object]()
    monkeypatch.setattr(batch_files, "_append_delivered", lambda *given: marked.append(given))
    monkeypatch.setattr(writer, "_REMOVE_AFTER_SECONDS", 1000)
    for turn, result in zip(turns, results, strict=True):
        outbox.drop(turn.ref, result)
        await anyio.lowlevel.checkpoint()
    await outbox.flush()
    assert marked == []
    assert names_in(tmp_path / "outbox") == []


async def test_a_late_result_is_written_when_somebody_waits_for_it(outbox: Outbox, tmp_path: Path) -> None:
    """However long it could have waited; and not at all if it is dropped before."""
    turn, other = make_turn(turn_id="T-1"), make_turn(turn_id="T-2")
    late = ResultKeeper(turn, succeed(1), outbox, delay_seconds=1000)
    dropped = ResultKeeper(other, succeed(2), outbox, delay_seconds=1000)
    assert dropped.drop() is None
    assert names_in(tmp_path / "outbox") == []
    entry = await late.secure()
    assert entry is not None
    assert names_in(tmp_path / "outbox") == [entry.path.name]
    assert late.drop() == entry  # to be removed by whoever reports the turn


async def test_a_late_result_is_written_after_its_time(outbox: Outbox, tmp_path: Path) -> None:
    """Although nobody asks for it: its worker may be killed."""
    outbox.begin(make_turn(), succeed(1), delay_seconds=0.05)
    with anyio.fail_after(60):
        while Outbox(tmp_path / "outbox", max_bytes=0).find(make_turn()) is None:  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_who_secures_a_result_gets_it_on_the_disk_although_cancelled(
    outbox: Outbox, tmp_path: Path
) -> None:
    """A worker that is cancelled gives up: that is when the disk has to have it."""
    keeper = ResultKeeper(make_turn(), succeed(1), outbox)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await keeper.secure()
    assert len(names_in(tmp_path / "outbox")) == 1


async def test_a_disk_that_takes_nothing_is_reported_though_the_kernel_has_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waited for the result, but the worker must not claim more."""
    troubles: list[OSError] = []
    outbox = Outbox(tmp_path / "outbox", max_bytes=10_000, on_trouble=troubles.append)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outbox.drop(make_turn().ref, outbox.begin(make_turn(), succeed(1)))  # perhaps before it is written
    keeper = ResultKeeper(make_turn(turn_id="T-2"), succeed(1), outbox)
    assert await keeper.secure() is None
    await outbox.flush()
    assert 1 <= len(troubles) <= 2
    assert "could not be stored: [Errno 28]" in caplog.text


async def test_a_fault_while_writing_leaves_nobody_waiting(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one of our own: the thread goes on, and whoever waits hears of it."""

    def broken(*_: object, **__: object) -> None:
        raise ValueError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_private", broken)
        with pytest.raises(ValueError, match="a bug"):
            await outbox.put(make_turn(), succeed(1))
    assert (await outbox.put(make_turn(), succeed(1))).path.exists()


async def test_the_thread_ends_when_it_is_idle_and_comes_back(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle worker has none."""
    monkeypatch.setattr(writer, "_IDLE_SECONDS", 0.01)
    others = set(threading.enumerate())
    await outbox.put(make_turn(turn_id="T-1"), succeed(1))
    with anyio.fail_after(60):
        while any(  # noqa: ASYNC110  # a thread tells nobody of its end
            thread.name == "cgworker: outbox" for thread in set(threading.enumerate()) - others
        ):
            await anyio.sleep(0.01)
    assert (await outbox.put(make_turn(turn_id="T-2"), succeed(2))).path.exists()
