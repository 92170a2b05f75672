"""The guard ends a worker's commands when the worker cannot, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

from cgworker.handlers.guard import Guard
from cgworker.handlers.guard_process import GuardedGroups
from cgworker.lease import Lease, monotonic
from tests.handlers.test_child import is_alive, until_gone
from tests.turns import make_turn

PROGRAM = """
import os, subprocess, sys, time
from pathlib import Path
from cgworker.handlers.guard import guard
from tests.turns import make_turn
folder, lease_seconds = Path(sys.argv[1]), float(sys.argv[2])
child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
lease = make_turn(seconds=lease_seconds).lease if lease_seconds else None
with guard.watching(child.pid, lease), guard.removing(folder):
    warn_at = guard._facts[f"group {child.pid}"]["warn_at"] or 0
    (folder.parent / "pids.tmp").write_text(f"{child.pid} {guard._process.pid} {warn_at}")
    (folder.parent / "pids.tmp").rename(folder.parent / "pids")
    time.sleep(1000)
"""


@contextmanager
def guarded(
    folder: Path, *, lease_seconds: float = 0
) -> Iterator[tuple[subprocess.Popen[bytes], int, int, float]]:
    """A process with a child and a folder under guard; its child's number, its guard's, its warning."""
    folder.mkdir()
    (folder / "context.json").write_text("{}")
    command = [sys.executable, "-c", PROGRAM, str(folder), str(lease_seconds)]
    worker = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 20
    while not (folder.parent / "pids").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    child, guard, warn_at = (folder.parent / "pids").read_text().split()
    try:
        yield worker, int(child), int(guard), float(warn_at)
    finally:
        for pid in (worker.pid, int(child), int(guard)):
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        worker.wait()


async def test_a_killed_workers_folder_goes_and_no_other(tmp_path: Path) -> None:
    """Its files hold what a turn is about; what the guard was not told of is not its business."""
    (tmp_path / "other").mkdir()
    with guarded(tmp_path / "folder") as (worker, child, guard, _):
        worker.kill()
        await until_gone(guard)
        assert not is_alive(child)
    assert [file.name async for file in anyio.Path(tmp_path).iterdir() if await file.is_dir()] == ["other"]


async def test_a_workers_command_ends_with_its_lease_although_the_worker_stands_still(tmp_path: Path) -> None:
    """A worker that is paused alone cannot end it, and another may hold the turn when the lease is over."""
    with guarded(tmp_path / "folder", lease_seconds=4.0) as (worker, child, _, warn_at):
        os.kill(worker.pid, signal.SIGSTOP)
        await until_gone(child)
        assert monotonic() >= warn_at > 0
        assert (tmp_path / "folder").exists()  # the worker lives, and lets it go when it goes on


def test_what_is_still_to_be_removed_is_gone_when_the_guard_is(tmp_path: Path) -> None:
    """A worker that ends waits for it: nothing is left behind by an orderly end."""
    guard = Guard()
    for n in range(50):
        with guard.removing(tmp_path / str(n)):
            (tmp_path / str(n) / "deep").mkdir(parents=True)
    guard.close()
    assert list(tmp_path.iterdir()) == []


def test_a_guard_that_was_killed_is_followed_by_one_that_knows_everything(tmp_path: Path) -> None:
    """With the next thing it is told."""
    guard, first, second = Guard(), tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    with guard.watching(child.pid, None), guard.removing(first):
        assert guard._process is not None  # noqa: SLF001  # there is no other way to find it
        guard._process.kill()  # noqa: SLF001
        guard._process.wait()  # noqa: SLF001
        with guard.removing(second):
            guard.close()
            assert not second.exists()
            assert not first.exists()
            assert child.wait(timeout=60) == -signal.SIGTERM


def test_a_guard_that_stands_still_does_not_hold_up_the_worker(tmp_path: Path) -> None:
    """A full pipe is noticed, and another guard started."""
    guard = Guard()
    with guard.removing(tmp_path):
        stopped = guard._process  # noqa: SLF001
        assert stopped is not None
        os.kill(stopped.pid, signal.SIGSTOP)
        for n in range(2000):
            with guard.removing(tmp_path / f"{n:0100}"):
                pass
        assert guard._process is not stopped  # noqa: SLF001
        assert not is_alive(stopped.pid)
    guard.close()


def test_without_a_guard_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may have no process to spare for it; the log says what that means."""
    guard = Guard()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "/no/such/python")
        with guard.removing(tmp_path / "first"), guard.watching(os.getpid(), None):
            (tmp_path / "first").mkdir()
        assert not (tmp_path / "first").exists()  # it was removed from here
    with guard.removing(tmp_path / "second"):
        assert guard._process is not None  # noqa: SLF001  # it was tried again
    guard.close()


def charge_with(lease: Lease) -> GuardedGroups:
    charge = GuardedGroups()
    charge.take({"group": 7, "warn_at": lease.fence_at, "end_at": lease.ends_at})
    return charge


def test_a_guard_sleeps_until_there_is_something_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """For ever without a command; until a lease's end, or a second, with one."""
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    assert GuardedGroups().seconds_to_next() is None
    charge = charge_with(make_turn(seconds=30).lease)
    assert charge.seconds_to_next() == 1.0
    charge.take({"gone": 7})
    assert charge.seconds_to_next() is None


def test_waiting_for_more_lines_keeps_no_signal_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy worker's lines are read together, but not when a group is due."""
    monkeypatch.setattr(os, "killpg", lambda *_: None)
    charge = charge_with(make_turn(seconds=30).lease)
    assert charge.seconds_to_gather() == GuardedGroups().seconds_to_gather() > 0
    charge.take({"group": 7, "warn_at": monotonic() - 1, "end_at": monotonic() + 30})
    assert charge.seconds_to_gather() == 0


def test_each_signal_is_sent_once_and_only_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group is warned, then ended; one whose lease was extended is left in peace."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: sent.append((group, number)))
    charge = charge_with(make_turn(seconds=30).lease)
    charge.signal_late()
    assert sent == []
    charge.take({"group": 7, "warn_at": monotonic() - 1, "end_at": monotonic() + 30})
    charge.signal_late()
    charge.signal_late()
    assert sent == [(7, signal.SIGTERM)]
    charge.take({"group": 7, "warn_at": monotonic() - 2, "end_at": monotonic() - 1})
    charge.signal_late()
    assert sent[1:] == [(7, signal.SIGTERM), (7, signal.SIGKILL)]


def test_a_lease_tells_its_followers_when_it_is_extended() -> None:
    """Now, after each renewal, and no more after the block."""
    lease, told = make_turn(seconds=30).lease, []
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with lease.followed_by(lambda lease: told.append(lease.length_seconds)):
        lease.extend(monotonic(), server_time=now, expires_at=now + timedelta(seconds=9))
    lease.extend(monotonic(), server_time=now, expires_at=now + timedelta(seconds=5))
    assert told == [30.0, 9.0]
