"""The small values of a turn in one file: what a crash, a full disk and a power cut leave of it."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from cgworker import FolderStore

TURN = "a" * 40


def name_of(number: int) -> str:
    return f"{TURN}/{number:064x}"


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


async def _wait(sync: Callable[[], Awaitable[None]]) -> None:
    await sync()


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


class Disk:
    """Counts the syncs of values, and holds or refuses them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.has_come = threading.Event()
        self.is_broken = False
        monkeypatch.setattr("cgworker.stores.segments._sync_data", self._sync)

    def _sync(self, descriptor: int) -> None:
        self.count += 1
        self.has_come.set()
        self.may_go_on.wait()
        if self.is_broken:
            raise OSError(5, "Input/output error")
        os.fsync(descriptor)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def test_what_is_written_is_there_for_others_before_it_is_synced(tmp_path: Path, disk: Disk) -> None:
    """So a worker that is killed at once leaves it."""
    assert FolderStore(tmp_path).write(name_of(1), b"one") is not None
    assert disk.count == 0
    assert await FolderStore(tmp_path).get(name_of(1)) == b"one"
    assert await FolderStore(tmp_path).names(TURN) == [name_of(1)]


async def test_values_that_come_during_a_sync_share_the_next_one(tmp_path: Path, disk: Disk) -> None:
    """As many as there are."""
    store = FolderStore(tmp_path)
    disk.may_go_on.clear()
    first = store.write(name_of(0), b"0")
    assert first is not None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_wait, first)
        await anyio.to_thread.run_sync(disk.has_come.wait)
        for number in range(1, 6):
            sync = store.write(name_of(number), b"%d" % number)
            assert sync is not None
            tasks.start_soon(_wait, sync)
        disk.may_go_on.set()
    assert disk.count == 2
    assert len(files(tmp_path)) == 1
    assert sorted(await store.names(TURN)) == [name_of(number) for number in range(6)]


async def test_values_that_were_written_at_once_are_one_sync(tmp_path: Path, disk: Disk) -> None:
    """The first to ask syncs all of them."""
    store = FolderStore(tmp_path)
    syncs = [store.write(name_of(number), b"x") for number in range(3)]
    for sync in syncs:
        assert sync is not None
        await sync()
    assert disk.count == 1


async def test_a_large_value_has_a_file_of_its_own(tmp_path: Path) -> None:
    """It is written in a thread."""
    store, large = FolderStore(tmp_path), bytes(100_000)
    assert store.write(name_of(1), large) is None
    assert files(tmp_path) == []
    await store.put(name_of(1), large)
    await store.put(name_of(2), b"small")
    assert await store.get(name_of(1)) == large
    assert set(await store.names(TURN)) == {name_of(1), name_of(2)}
    await store.delete(TURN)
    assert files(tmp_path) == []


async def test_a_value_as_versions_before_stored_it_is_found(tmp_path: Path) -> None:
    """Each was a file."""
    (tmp_path / TURN).mkdir()
    (tmp_path / name_of(1)).write_bytes(b"one")
    store = FolderStore(tmp_path)
    assert await store.names(TURN) == [name_of(1)]
    assert await store.get(name_of(1)) == b"one"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data, middle: data[: middle + 5],
        lambda data, middle: data[:middle] + bytes(len(data) - middle),
        lambda data, middle: data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        lambda data, middle: data[: middle + 60] + b"?" + data[middle + 61 :],
    ],
    ids=["cut", "zeros", "mark", "name"],
)
async def test_after_a_power_cut_there_is_no_value_whose_predecessor_is_lost(
    damage: Callable[[bytes, int], bytes], tmp_path: Path
) -> None:
    """A step could have been done with that."""
    store = FolderStore(tmp_path)
    await store.put(name_of(1), b"one")
    [segment] = files(tmp_path)
    middle = segment.stat().st_size
    await store.put(name_of(2), b"two")
    await store.put(name_of(3), b"three")
    segment.write_bytes(damage(segment.read_bytes(), middle))
    assert await FolderStore(tmp_path).names(TURN) == [name_of(1)]
    assert await FolderStore(tmp_path).get(name_of(3)) is None


async def test_after_a_full_disk_values_are_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of one was written; what follows it in a file would not be read."""
    store, write = FolderStore(tmp_path), os.write
    await store.put(name_of(1), b"one")
    monkeypatch.setattr("os.write", lambda descriptor, data: write(descriptor, data[:7]))
    with pytest.raises(OSError, match="No space left"):
        store.write(name_of(2), b"two")
    monkeypatch.undo()
    await store.put(name_of(3), b"three")
    assert set(await store.names(TURN)) == {name_of(1), name_of(3)}


async def test_a_sync_that_failed_is_told_to_all_who_wait_for_it(tmp_path: Path, disk: Disk) -> None:
    """What comes later goes to another file: nobody knows what of this one is on the disk."""
    store = FolderStore(tmp_path)
    disk.is_broken = True
    first, second = store.write(name_of(1), b"one"), store.write(name_of(2), b"two")
    for sync in (first, second):
        assert sync is not None
        with pytest.raises(OSError, match="Input/output"):
            await sync()
    disk.is_broken = False
    await store.put(name_of(3), b"three")
    assert len(files(tmp_path)) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
async def test_a_forked_child_writes_to_a_file_of_its_own(tmp_path: Path) -> None:
    """A part of an entry of one of them would hide what the other one wrote after it."""
    program = f"""
import os
from cgworker import FolderStore
store = FolderStore({str(tmp_path)!r})
store.write({name_of(1)!r}, b"parent")
if os.fork() == 0:
    store.write({name_of(2)!r}, b"child")
    os._exit(0)
os.wait()
store.write({name_of(3)!r}, b"parent")
"""
    await anyio.run_process([sys.executable, "-c", program])
    assert len(files(tmp_path)) == 2
    assert len(await FolderStore(tmp_path).names(TURN)) == 3


async def test_few_files_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker makes steps of many turns."""
    monkeypatch.setattr("cgworker.stores.segments._MAX_OPEN", 4)
    store = FolderStore(tmp_path)
    await store.put(name_of(0), b"x")  # the first makes a thread
    before = descriptors()
    for number in range(20):
        await store.put(f"{number:040x}/{'1' * 64}", b"x")
    assert descriptors() == before + 3
    for number in range(20):
        await store.delete(f"{number:040x}")
    assert descriptors() == before - 1


async def test_a_segment_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening it takes longer than writing a small value."""
    opened: list[object] = []
    monkeypatch.setattr("cgworker.stores.segments.os.open", _noting(opened))
    store = FolderStore(tmp_path)
    for number in range(20):
        await store.put(name_of(number), b"x")
    assert len([path for path in opened if str(path).endswith(".segment")]) == 2  # it is looked for, and made


def _noting(opened: list[object], open_it: Callable[..., int] = os.open) -> Callable[..., int]:
    def noting(path: object, *arguments: int) -> int:
        opened.append(path)
        return open_it(path, *arguments)

    return noting


async def test_a_value_is_kept_when_the_folder_was_removed_before(tmp_path: Path) -> None:
    """With `on_private_missing="redo"`, the step is done again, and a later attempt must find its value."""
    store = FolderStore(tmp_path)
    await store.put(name_of(1), b"one")
    shutil.rmtree(tmp_path / TURN)
    await store.put(name_of(2), b"two")
    assert await FolderStore(tmp_path).names(TURN) == [name_of(2)]
