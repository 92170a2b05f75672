"""Where a result waits on disk until the kernel has it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import Turn, fail, stop, succeed
from cgworker.wire import converter
from cgworker.worker.outbox.batch_files import BatchFiles, batch_files_in, read_line
from cgworker.worker.outbox.files import OutboxFull
from cgworker.worker.outbox.outbox import Outbox, OutboxEntry
from tests.turns import CLAIM_TOKEN, CREDENTIAL, make_turn


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox", max_bytes=10_000)


@pytest.mark.parametrize(
    "outcome", [succeed(), succeed(None), succeed({"a": [1]}, "answer"), fail("x"), stop(1)]
)
async def test_what_was_put_is_found_by_another_worker(outbox: Outbox, tmp_path: Path, outcome: Any) -> None:
    """Whatever the outcome; no payload and a payload of null are told apart."""
    await outbox.put(make_turn(), outcome)
    other = Outbox(tmp_path / "outbox", max_bytes=10_000)
    found = other.find(make_turn())
    assert found is not None
    assert found.outcome == outcome


async def test_a_result_is_bound_to_its_very_turn(outbox: Outbox) -> None:
    """Turn ids recur after a database reset; birth and spawn key tell them apart (difference 18)."""
    await outbox.put(make_turn(), succeed(1))
    assert outbox.find(make_turn(created_at="2026-02-02T00:00:00+00:00")) is None
    assert outbox.find(make_turn(spawn_key="other")) is None
    assert outbox.find(make_turn(turn_id="T-2")) is None


async def test_it_is_private_and_holds_no_secret(outbox: Outbox, tmp_path: Path) -> None:
    """0600 in a 0700 folder, and only what is needed to deliver it."""
    entry = await outbox.put(make_turn(), succeed({"a": 1}))
    assert entry.path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "outbox").stat().st_mode & 0o777 == 0o700
    text = entry.path.read_text()
    assert CLAIM_TOKEN not in text
    assert CREDENTIAL not in text


async def test_it_is_on_the_disk_before_put_returns(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced before it gets its name, and the folder after."""
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    await outbox.put(make_turn(), succeed(1))
    assert synced[0].endswith(".tmp")
    assert synced[1:] == ["outbox"]


async def test_half_a_file_is_no_result(outbox: Outbox) -> None:
    """A disk that lied: the handler is run again rather than something wrong delivered."""
    entry = await outbox.put(make_turn(), succeed({"a": 1}))
    entry.path.write_bytes(entry.path.read_bytes()[:20])
    assert outbox.find(make_turn()) is None


@pytest.mark.parametrize("change", [{"outcome": "sideways"}, {"outcome": []}, {"role": None}])
async def test_what_is_no_result_of_ours_is_left_alone(outbox: Outbox, change: dict[str, Any]) -> None:
    """Another version may have written it, or a person: the handler is run again, and nothing breaks."""
    turn = make_turn()
    entry = await outbox.put(turn, succeed(1))
    stored = json.loads(entry.path.read_text()) | change
    entry.path.write_text(json.dumps({name: value for name, value in stored.items() if value is not None}))
    assert outbox.find(turn) is None
    assert outbox.waiting(turn.kernel.base_url, turn.agent) == []
    assert entry.path.exists()


async def test_what_cannot_be_kept_aside_stays_where_it_is(outbox: Outbox, tmp_path: Path) -> None:
    """A disk that refuses must not end the worker."""
    entry = await outbox.put(make_turn(), succeed(1))
    (tmp_path / "outbox" / "kept").write_text("no folder")
    assert outbox.dead_letter(entry) == entry.path
    assert outbox.find(make_turn()) == entry


async def test_what_is_kept_aside_can_be_read_by_a_person(outbox: Outbox) -> None:
    """It says which turn at which kernel it belonged to."""
    entry = await outbox.put(make_turn(), succeed({"a": 1}))
    kept = outbox.dead_letter(entry)
    assert kept is not None
    assert outbox.dead_letter(entry) is None  # as when another worker was quicker
    assert outbox.find(make_turn()) is None
    stored = json.loads(kept.read_text())
    assert (stored["turn_id"], stored["outcome"], stored["payload"]) == ("T-1", "succeeded", {"a": 1})


async def test_it_is_bounded_and_what_was_kept_aside_goes_first(outbox: Outbox) -> None:
    """What can still be delivered is never thrown away for room."""
    kept = outbox.dead_letter(await outbox.put(make_turn(), succeed("x" * 6000)))
    assert kept is not None
    entry = await outbox.put(make_turn(turn_id="T-2"), succeed("y" * 6000))
    assert not kept.exists()
    with pytest.raises(OutboxFull):
        await outbox.put(make_turn(turn_id="T-3"), succeed("z" * 6000))
    assert entry.path.exists()


async def test_results_that_wait_for_the_disk_share_a_file(outbox: Outbox, tmp_path: Path) -> None:
    """A sync is paid once for all of them; each is found, and the file goes with the last one."""
    turns = [make_turn(turn_id=f"T-{number}") for number in range(8)]
    entries = await _put_all(outbox, turns)
    assert len({entry.path for entry in entries}) < len(turns)
    other = Outbox(tmp_path / "outbox", max_bytes=10_000)
    for turn in turns:
        found = other.find(turn)
        assert found is not None
        assert found.outcome == succeed(turn.ref.turn_id)
        await other.discard(found)
        assert outbox.find(turn) is None
    assert list((tmp_path / "outbox").iterdir()) == []


async def test_a_shared_file_is_delivered_by_two_processes(outbox: Outbox, tmp_path: Path) -> None:
    """Who wrote it knows what is in it, and yet hears of what another one has struck."""
    turns = [make_turn(turn_id=f"T-{number}") for number in range(8)]
    entries = [entry for entry in await _put_all(outbox, turns) if entry.is_shared]
    another = BatchFiles(tmp_path / "outbox")
    path, stored = another.find(entries[0].fingerprint) or pytest.fail("it is not found")
    assert (path, stored["turn_id"]) == (entries[0].path, entries[0].turn_id)
    another.mark_delivered(path, [entry.fingerprint for entry in entries if entry.path == path][:2])
    for entry in entries[2:]:
        await outbox.discard(entry)
    assert not path.exists()


async def test_what_is_delivered_together_was_never_read(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker knows what it has stored: a file that only it delivers is written once, and removed."""
    turns = [make_turn(turn_id=f"T-{number}") for number in range(8)]
    monkeypatch.setattr(BatchFiles, "_read", lambda *_: pytest.fail("it was read"))
    entries = [entry for entry in await _put_all(outbox, turns) if entry.is_shared]
    async with anyio.create_task_group() as group:
        for entry in entries:
            group.start_soon(outbox.discard, entry)
    assert not entries[0].path.exists()


async def test_a_torn_last_line_of_a_shared_file_costs_nothing(outbox: Outbox) -> None:
    """A process killed while it struck a result: the others are found, and it is as if it were not struck."""
    turns = [make_turn(turn_id=f"T-{number}") for number in range(8)]
    shared = [entry for entry in await _put_all(outbox, turns) if entry.is_shared]
    with shared[0].path.open("ab") as file:
        file.write(b'\n{"deliv')
    await outbox.discard(shared[0])
    found = [turn for turn in turns if outbox.find(turn) is not None]
    assert len(found) == len(turns) - 1


async def test_one_result_of_a_shared_file_is_kept_aside(outbox: Outbox) -> None:
    """It gets a file of its own that a person can read, and the others stay where they are."""
    turns = [make_turn(turn_id=f"T-{number}") for number in range(8)]
    entry = next(entry for entry in await _put_all(outbox, turns) if entry.is_shared)
    kept = outbox.dead_letter(entry)
    assert kept is not None
    assert json.loads(kept.read_text())["turn_id"] == entry.turn_id
    assert outbox.dead_letter(entry) is None
    assert sum(outbox.find(turn) is not None for turn in turns) == len(turns) - 1


async def test_a_file_that_cannot_be_read_is_left_alone(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows what waits in it: neither who tidies nor who has delivered one result removes it."""
    turns = [make_turn(turn_id=f"T-{number}") for number in range(8)]
    entry = next(entry for entry in await _put_all(outbox, turns) if entry.is_shared)
    stat = Path.stat

    def broken(path: Path, **more: Any) -> os.stat_result:
        if path == entry.path:
            raise OSError(errno.ESTALE, "stale file handle")
        return stat(path, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", broken)
        outbox.find(make_turn(turn_id="T-99"))
        batch_files_in.cache_clear()
        outbox.tidy()
        await outbox.discard(entry)
    assert sum(outbox.find(turn) is not None for turn in turns) == len(turns) - 1


async def test_one_odd_thing_in_the_folder_hides_nothing_else(outbox: Outbox, tmp_path: Path) -> None:
    """Folders with the names of files, and a line that is nested too deeply to be read."""
    entry = await outbox.put(make_turn(), succeed(1))
    for name in ("odd.group", "odd.json", "odd.tmp"):
        (tmp_path / "outbox" / name).mkdir()
        os.utime(tmp_path / "outbox" / name, (0, 0))
    (tmp_path / "outbox" / "deep.group").write_bytes(b"[" * 100_000 + b"\n")
    outbox.tidy()
    assert outbox.find(make_turn()) == entry


async def test_half_a_file_that_could_not_be_written_does_not_stay(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full needs what little it has."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        await outbox.put(make_turn(), succeed(1))
    assert list((tmp_path / "outbox").iterdir()) == []


def test_a_line_is_read_by_the_quick_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with a fingerprint that has an exponent in it, as most have."""

    def slowly(_: bytes) -> None:
        raise AssertionError("Python's own parser")

    monkeypatch.setattr(converter, "_loads_exactly", slowly)
    assert read_line(b'{"delivered":"1e2"}\n') == {"delivered": "1e2"}


async def _put_all(outbox: Outbox, turns: list[Turn]) -> list[OutboxEntry]:
    entries: list[OutboxEntry] = []

    async def put(turn: Turn) -> None:
        entries.append(await outbox.put(turn, succeed(turn.ref.turn_id)))

    async with anyio.create_task_group() as group:
        for turn in turns:
            group.start_soon(put, turn)
    return entries
