"""What a supervisor such as systemd is told, by a real datagram socket."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from cgworker import Turn, Worker
from cgworker.events import WorkerDraining, WorkerStarted
from cgworker.testing import LocalKernel
from cgworker.worker.process.serve import serve
from cgworker.worker.process.systemd import SystemdNotifier, watchdog_seconds
from tests.kernels import NewProject
from tests.systemd import Systemd
from tests.turns import AGENT

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there is no systemd there")

STARTED = WorkerStarted(
    agent=AGENT, kernel="k", concurrency=1, grace_seconds=1, max_attempts=1, time_limit_seconds=None
)
DRAINING = WorkerDraining(agent=AGENT, held_count=0, grace_seconds=1)


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    with tempfile.TemporaryDirectory() as folder:  # short: a socket's path may have 107 characters
        address = f"{folder}/notify" if request.param == "path" else f"@cgworker-{secrets.token_hex(4)}"
        if request.param == "abstract" and sys.platform != "linux":
            pytest.skip("abstract sockets are Linux's")
        supervisor = Systemd(address)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        monkeypatch.setenv("XDG_STATE_HOME", folder)
        yield supervisor
        supervisor.close()


@pytest.fixture
async def kernel(new_project: NewProject) -> AsyncIterator[LocalKernel]:
    async with new_project() as kernel:
        yield kernel


async def handle(_: Turn) -> None: ...


async def test_a_program_says_when_it_is_ready_that_it_lives_and_when_it_ends(
    kernel: LocalKernel, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ready are its workers when all of them claim."""
    monkeypatch.setenv("WATCHDOG_USEC", "150000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    workers = tuple([Worker(await kernel.agent(name), handle) for name in ("desk", "clerk")])
    async with anyio.create_task_group() as group:
        group.start_soon(serve, workers)
        words = [await anyio.to_thread.run_sync(systemd.hear)]
        while words.count("READY=1") < 1 or words[-1] == "READY=1":
            words.append(await anyio.to_thread.run_sync(systemd.hear))
        for worker in workers:
            worker.drain()
    words += systemd.heard()
    assert words[0] == words[words.index("READY=1") + 1] == "WATCHDOG=1"
    assert (words.count("READY=1"), words.count("STOPPING=1")) == (1, 1)
    assert words.index("READY=1") < words.index("STOPPING=1")


def test_several_workers_of_one_agent_are_ready_when_all_of_them_are(systemd: Systemd) -> None:
    """They are counted one by one."""
    supervisor = SystemdNotifier(systemd.address, 2)
    supervisor.note(STARTED)
    assert systemd.heard() == []
    supervisor.note(STARTED)
    supervisor.note(DRAINING)
    assert systemd.heard() == ["READY=1"]
    supervisor.note(DRAINING)
    supervisor.send_stopping()
    assert systemd.heard() == ["STOPPING=1"]


def test_a_supervisor_that_does_not_listen_harms_no_worker(caplog: pytest.LogCaptureFixture) -> None:
    """It is told in the log."""
    SystemdNotifier("/no/such/socket", 1).note(STARTED)
    assert "READY=1" in caplog.text


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("3000000", None, 3.0),
        ("3000000", "1", None),
        ("0", None, None),
        ("soon", None, None),
        (None, None, None),
    ],
)
def test_who_is_watched_is_said_by_the_environment(
    usec: str | None, pid: str | None, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parent's watchdog is the parent's affair."""
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert watchdog_seconds() == seconds


async def test_without_a_supervisor_nobody_is_told(
    kernel: LocalKernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And the workers run as ever."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    worker = Worker(await kernel.agent("desk"), handle)
    worker.drain()
    with anyio.fail_after(60):
        await serve((worker,))
