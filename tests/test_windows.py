"""Where Windows lacks something, the worker does without: shown by taking it away (tests/windows.py).

What is lost with it is in docs/reference/command-contract.md, "On Windows".
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from cgworker.testing import LocalKernel, local_kernel
from tests.journeys.conftest import closed, in_state

ROOT = Path(__file__).parent.parent

PREAMBLE = """
import asyncio, subprocess, shutil, tempfile, ssl, sys
import anyio._backends._asyncio, attrs, cattrs.preconf.orjson, httpcore, httpx, orjson, rich.console, typer
import jinja2, uvicorn  # the console's
import trio  # httpcore looks for it
from tests import windows
windows.pretend()
"""

IMPORT_EVERYTHING = """
import importlib, pathlib, cgworker
root = pathlib.Path(cgworker.__path__[0])
for path in sorted(root.rglob("*.py")):
    words = path.relative_to(root).with_suffix("").parts
    if words[0] not in ("kernel", "testing", "cli", "adapters", "__main__"):
        importlib.import_module(".".join(("cgworker", *words)))
import cgworker.cli.commands.worker.group, cgworker.cli.commands.worker.claim.run
"""

WORKER = """
from cgworker import AgentRef, CommandHandler, KernelClient, Worker, WorkerOptions, run
url, project, token, _ = sys.argv[1:]
kernel = KernelClient(url, agent=AgentRef(project_id=project, agent_id="desk"), token=token)
script = 'cp $CG_INPUT_FILE $CG_FINAL_FILE; if grep -q wait $CG_INPUT_FILE; then exec sleep 1000; fi'
command = [sys.argv[4], "-c", script]
run(Worker(kernel, CommandHandler(command), options=WorkerOptions(wait_seconds=5, interrupt_seconds=1)))
print("ended in order")
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def kernel() -> AsyncIterator[LocalKernel]:
    async with local_kernel(lease_seconds=5.0) as kernel:
        yield kernel


def test_everything_but_the_kernel_can_be_imported() -> None:
    """Nothing is looked up at import that Windows does not have."""
    command = [sys.executable, "-c", PREAMBLE + IMPORT_EVERYTHING]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr


async def test_a_worker_runs_a_command_ends_one_that_is_stopped_and_drains(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """Files, settling, outbox, interruption and the end by Ctrl-C, without process groups and a guard."""
    async with await kernel.agent("desk") as desk:
        about = (kernel.base_url, kernel.project_id, *desk.secrets, shutil.which("sh") or "sh")
        command = [sys.executable, "-c", PREAMBLE + WORKER, *about]
        env = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
        worker = await anyio.open_process(command, cwd=ROOT, env=env, stderr=None)
        assert worker.stdout is not None
        try:
            done = await closed(desk, await kernel.dispatch("desk", {"n": 1}))
            assert (done.outcome, done.final_payload) == ("succeeded", {"n": 1})
            stuck = await kernel.dispatch("desk", "wait")
            await in_state(desk, stuck, "running")
            await desk.turns.stop(stuck, requested_by=desk.agent)  # type: ignore[arg-type]
            assert (await closed(desk, stuck)).outcome == "stopped"
            worker.send_signal(signal.SIGINT)
            with anyio.fail_after(60):
                assert await worker.wait() == 0
                assert await worker.stdout.receive() == b"ended in order\n"
        finally:
            if worker.returncode is None:
                worker.kill()
            await worker.aclose()


BY_CLI = """
from pathlib import Path
from cgworker.cli import app
from cgworker.profiles import ConfigFile, Profile
url, project, token_file, config_path, shell = sys.argv[1:]
config = ConfigFile(Path(config_path))
config.save_profile(Profile(project_id=project, agent_id="desk", token_file=Path(token_file)))
flags = ["--profile", f"{project}/desk", "--config", config_path, "--base-url", url]
words = ["worker", "once", *flags, "--command", shell, "-c", "echo 1 > $CG_FINAL_FILE"]
sys.exit(app.run(words))
"""


async def test_a_profile_is_kept_and_a_turn_worked_by_the_command_line(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """Config file, token file and `cg worker once`, without locks and modes."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        token_file = tmp_path / "token"
        token_file.write_text(*desk.secrets)
        about = (kernel.base_url, kernel.project_id, str(token_file), str(tmp_path / "config.json"))
        command = [sys.executable, "-c", PREAMBLE + BY_CLI, *about, shutil.which("sh") or "sh"]
        env = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
        ended = await anyio.run_process(command, cwd=ROOT, env=env, check=False)
        assert ended.returncode == 0, ended.stderr.decode()
        assert json.loads(ended.stdout)["result"]["outcome"] == "succeeded"
        assert (await closed(desk, turn)).final_payload == 1
