"""Whose process a postmaster.pid names, how long a start may take, and who stops what nobody uses."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cgworker.errors import UsageError
from cgworker.kernel.store.postgres import postmaster
from cgworker.kernel.store.postgres.embedded import EmbeddedPostgres
from cgworker.kernel.store.postgres.postmaster import read_pid_file, wait_until_gone, wait_until_ready

# A user that is killed at the moment at which it knows of its server.
DIES_AT_ONCE = """
import os, signal, sys
from cgworker.kernel.store.postgres import embedded
embedded.wait_until_ready = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
embedded.EmbeddedPostgres(sys.argv[1], durable=False).start()
"""
# The same, and what comes after its "echo" is late.
SLOW_KEEPER = """
assert "    cat\\n" in embedded._KEEPER
embedded._KEEPER = embedded._KEEPER.replace("    cat\\n", "    sleep 1; cat\\n")
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for data, made and stopped once."""
    with tempfile.TemporaryDirectory(prefix="cg-") as place:
        with EmbeddedPostgres(place, durable=False):
            pass
        yield Path(place)


@pytest.fixture
def data() -> Iterator[Path]:
    """A data folder without a server in it: what a test says of one is all there is."""
    with tempfile.TemporaryDirectory(prefix="cg-") as place:
        (Path(place) / "log").touch()
        yield Path(place)


def say(data: Path, *, pid: int, started_at: float, status: str = "ready") -> None:
    """Leave a postmaster.pid as PostgreSQL writes it."""
    lines = [pid, data, int(started_at), 5432, ".", "", "  2165681        29", f"{status:8}"]
    (data / "postmaster.pid").write_text("".join(f"{line}\n" for line in lines))


@contextmanager
def a_process_of_its_account(folder: Path) -> Iterator[int]:
    """The number of a process that PostgreSQL could take for a server: another account's it never does."""
    with subprocess.Popen(["sleep", "60"], user=(folder / "data").stat().st_uid) as process:
        yield process.pid
        process.kill()


@pytest.mark.parametrize("status", ["ready", "starting", "stopping"])
def test_a_stale_pid_that_another_process_has_keeps_nobody_from_starting(folder: Path, status: str) -> None:
    """In a new container every number is soon somebody's: the kernel's own, for instance."""
    with a_process_of_its_account(folder) as pid:
        say(folder / "data", pid=pid, started_at=time.time() - 86400, status=status)
        with EmbeddedPostgres(folder, durable=False) as postgres:
            assert postgres.is_running


@pytest.mark.parametrize("text", ["", "\n", "no number\n", "{pid}\n"])
def test_a_torn_postmaster_pid_keeps_nobody_from_starting(folder: Path, text: str) -> None:
    """A power cut leaves it empty or cut short."""
    with a_process_of_its_account(folder) as pid:
        (folder / "data" / "postmaster.pid").write_text(text.format(pid=pid))
        with EmbeddedPostgres(folder, durable=False) as postgres:
            assert postgres.is_running


def test_a_process_that_began_at_another_time_is_not_the_server(data: Path) -> None:
    """Its number is all that it shares with it; whoever waits for the server's end need not wait for its."""
    say(data, pid=os.getpid(), started_at=time.time() - 86400)
    found = read_pid_file(data)
    assert found is not None
    assert not found.is_alive
    assert wait_until_gone(data)


def test_a_server_that_began_when_it_says_lives_and_is_waited_for(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It need not answer: one that stops or recovers does not."""
    monkeypatch.setattr(postmaster, "STOP_SECONDS", 0.1)
    with subprocess.Popen(["sleep", "60"]) as process:
        say(data, pid=process.pid, started_at=time.time(), status="stopping")
        assert not wait_until_gone(data)
        process.kill()


def test_a_server_that_stays_is_named_and_how_to_stop_it_as_well(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody starts another beside it."""
    monkeypatch.setattr(postmaster, "STOP_SECONDS", 0.1)
    with subprocess.Popen(["sleep", "60"]) as process:
        say(folder / "data", pid=process.pid, started_at=time.time())
        with pytest.raises(UsageError, match=rf"process number {process.pid} .*kill -INT {process.pid}"):
            EmbeddedPostgres(folder, durable=False).start()
        process.kill()


def test_an_old_ready_with_the_new_servers_number_is_not_believed(data: Path) -> None:
    """Until the new server writes its own, the file says what the old one was."""
    say(data, pid=os.getpid(), started_at=time.time() - 86400)
    assert not wait_until_ready(data, os.getpid(), is_cancelled=lambda: True)


def test_a_recovery_is_waited_for_as_long_as_it_says_how_far_it_is(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """To cut it short would have it begin anew with each start, for ever."""
    monkeypatch.setattr(postmaster, "QUIET_SECONDS", 1.0)

    def recover(listener: socket.socket) -> None:
        for step in range(8):
            with (data / "log").open("a") as log:
                log.write(f"[7] LOG:  redo in progress, elapsed time: {step}.00 s, current LSN: 0/{step}\n")
            time.sleep(0.25)
        listener.bind(str(data / ".s.PGSQL.5432"))
        listener.listen()
        say(data, pid=os.getpid(), started_at=time.time())

    with socket.socket(socket.AF_UNIX) as listener, caplog.at_level(logging.WARNING):
        recovery = threading.Thread(target=recover, args=[listener])
        recovery.start()
        assert wait_until_ready(data, os.getpid(), is_cancelled=lambda: False)
        recovery.join()
    assert "not ready yet: redo in progress, elapsed time: 7.00 s, current LSN: 0/7" in caplog.text


def test_a_server_that_falls_silent_before_it_is_ready_is_not_waited_for(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What says nothing makes no progress."""
    monkeypatch.setattr(postmaster, "QUIET_SECONDS", 0.1)
    assert not wait_until_ready(data, os.getpid(), is_cancelled=lambda: False)


def test_a_start_that_is_given_up_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who presses Ctrl-C during a recovery is not held by it."""
    postgres = EmbeddedPostgres(folder, durable=False)
    monkeypatch.setattr(postmaster, "_is_ready", lambda *_: False)
    threading.Timer(1, postgres.cancel_start).start()
    with pytest.raises(UsageError, match="does not start"):
        postgres.start()


@pytest.mark.parametrize("slow", ["", SLOW_KEEPER])
def test_a_server_whose_starter_was_killed_in_the_middle_is_stopped(folder: Path, slow: str) -> None:
    """Its keeper notices, even if it comes to look only when nobody is left."""
    code = DIES_AT_ONCE.replace("embedded.wait", f"{slow}embedded.wait", 1)
    died = subprocess.run([sys.executable, "-c", code, str(folder)], check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while (said := read_pid_file(folder / "data")) is None or said.is_alive:
        assert time.monotonic() < deadline, "the server was left behind"
        if said is None and not _keepers_of(folder):
            break  # it was stopped before it wrote its file, or after it had removed it
        time.sleep(0.05)
    assert wait_until_gone(folder / "data")


def _keepers_of(folder: Path) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line]
