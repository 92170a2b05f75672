"""A worker's environment and memory are closed to the commands that it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows a process by /proc")

# Root may read everything: it becomes somebody else first, which would close the process by itself.
LOOK = """
import ctypes, os, subprocess, sys
from cgworker.worker.process.dumpable import close_memory
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
def look():
    command = ["/bin/sh", "-c", "cat /proc/$PPID/environ"]
    return subprocess.run(command, capture_output=True, env={}, cwd="/").stdout
assert b"a-canary" in look()
close_memory()
sys.exit(b"a-canary" in look())
"""
# What a whole worker is, and what a program that it starts is.
RUN = """
import ctypes
from cgworker import AgentRef, KernelClient, Worker, run
from cgworker.worker.process import serve
async def look(*_):
    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)
serve.serve = look
agent = AgentRef(project_id="p", agent_id="a")
run(Worker(KernelClient("http://127.0.0.1:1", agent=agent, token="x"), lambda turn: None))
"""

# What a command of `cg` is by the time it would speak with the kernel, or read the user's program.
COMMAND = """
import sys
import desk
from cgworker.cli import app
from cgworker.client import KernelClient
KernelClient.__init__ = desk.look
del sys.modules["desk"]
app.run(sys.argv[1:])
"""
DESK = """
import ctypes, sys
def look(*_, **__):
    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)
    sys.exit()
if "cgworker.cli.commands.worker.run" in sys.modules:
    look()
"""
WHO = ["--project-id", "p", "--agent-id", "a", "--auth-token", "x", "--base-url", "http://127.0.0.1:1"]


def exit_of(code: str, *argv: str, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    environment = {**os.environ, "CG_AGENT_CREDENTIAL_TOKEN": "a-canary", **more}
    command = [sys.executable, "-c", code, *argv]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_command_cannot_read_its_workers_environment() -> None:
    """Its own has no secret in it; that of the process above it must not be one step away."""
    looked = exit_of(LOOK)
    assert looked.returncode == 0, looked.stderr


def test_who_asks_for_it_can_look_into_a_worker() -> None:
    """A debugger or profiler needs it."""
    assert exit_of(LOOK, CG_WORKER_DUMPABLE="on").returncode == 1


@pytest.mark.parametrize(("asked", "dumpable"), [("", "0"), ("off", "0"), ("on", "1")])
def test_run_closes_its_process(asked: str, dumpable: str) -> None:
    """`run()` owns the process."""
    ran = exit_of(RUN, CG_WORKER_DUMPABLE=asked)
    assert ran.stdout.strip() == dumpable, ran.stderr


@pytest.mark.parametrize(("asked", "dumpable"), [("", "0"), ("on", "1")])
@pytest.mark.parametrize(
    "words",
    [
        ["once", *WHO, "--command", "true"],
        ["loop", *WHO, "--command", "true"],
        ["claim", "run", *WHO, "--", "true"],
        ["run", "desk:worker"],
    ],
    ids=lambda words: words[0],
)
def test_each_command_that_runs_work_closes_its_process(
    tmp_path: Path, words: list[str], asked: str, dumpable: str
) -> None:
    """Before it has a credential in use, for a loop, a single turn, a claim, and a program's workers."""
    (tmp_path / "desk.py").write_text(DESK)
    ran = exit_of(COMMAND, "worker", *words, cwd=tmp_path, CG_WORKER_DUMPABLE=asked)
    assert ran.stdout.strip() == dumpable, ran.stderr
