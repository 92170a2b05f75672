"""Run a worker, on a machine of its own, until it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio

from cgworker import KernelClient
from cgworker.testing import LocalKernel
from tests.warm import warm_folder


async def run_until_killed(
    kernel: LocalKernel,
    desk: KernelClient,
    agent: str,
    folder: Path,
    at: str = "",
    *,
    warm: Sequence[str] = (),
) -> None:
    """Run a worker of a scripted agent until it is killed.

    Args:
        kernel: the kernel.
        desk: the agent that works.
        agent: the module of the scripted agent, in `tests.adapters`.
        folder: what all workers of the turn share.
        at: where the script kills the worker; empty if another does.
        warm: modules of scripted agents for a Python that has loaded them; without any, a new one is started.
    """
    modules = ("tests.adapters.killed", *(f"tests.adapters.{each}" for each in warm))
    python = warm_folder(*modules) / "python" if warm else sys.executable
    about = (agent, kernel.base_url, kernel.project_id, *desk.secrets, str(folder), at)
    ended = await anyio.run_process(
        [str(python), "-m", "tests.adapters.killed", *about],
        env={**os.environ, "XDG_STATE_HOME": str(folder / "other machine")},
        check=False,
        stderr=subprocess.STDOUT,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stdout.decode()
