"""Run a worker, on a machine of its own, until it is killed; and a kernel for such tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import anyio
import pytest

from cgworker import KernelClient
from cgworker.testing import LocalKernel
from tests.kernels import NewProject
from tests.warm import warm_folder


@pytest.fixture
async def kernel(new_project: NewProject) -> AsyncIterator[LocalKernel]:
    """A kernel whose leases end when a test says so."""
    async with new_project(lease_seconds=30.0, reaper_seconds=0.1) as kernel:
        yield kernel


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
