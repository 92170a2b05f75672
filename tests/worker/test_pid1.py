"""Being a container's PID 1."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

_UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def _can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode == 0


PROGRAM = """
import os, subprocess, sys, time
from cgworker.worker.process.pid1 import run_below_pid1
assert os.getpid() == 1
run_below_pid1()
assert os.getpid() != 1
# A stranger: its parent ends at once, so PID 1 inherits it.
subprocess.run(["sh", "-c", "sh -c 'exit 0' & echo $!"], stdout=subprocess.DEVNULL)
time.sleep(0.3)
zombies = [
    name for name in os.listdir("/proc")
    if name.isdigit() and " Z " in open(f"/proc/{name}/stat").read()
]
own = subprocess.run(["sh", "-c", "exit 7"]).returncode
print(len(zombies), own)
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.skipif(not _can_unshare(), reason="this user may not make PID namespaces (unshare --pid)")
def test_pid_one_reaps_strangers_and_passes_the_exit_status_on() -> None:
    """No zombie stays, no exit status of ours is stolen, and the container ends as the worker did."""
    command = [*_UNSHARE, sys.executable, "-c", PROGRAM, "5"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout.split(), ended.returncode) == (["0", "7"], 5), ended.stderr


def test_any_other_process_goes_on_as_it_is() -> None:
    """Only PID 1 has those duties."""
    program = (
        "import os; from cgworker.worker.process.pid1 import run_below_pid1;"
        " before = os.getpid(); run_below_pid1(); print(before == os.getpid())"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "True\n"
