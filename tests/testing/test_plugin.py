"""The pytest plugin: found by itself, its fixtures work on asyncio and on trio."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.warm import warm_python

SUITE = """
import pytest
from cgworker import Turn, UsageError, Worker, handles

pytestmark = pytest.mark.anyio
seen = []

async def answer(turn: Turn, question: dict) -> dict:
    return {"text": question["text"].upper()}

class Desk(Worker):
    @handles("turn.conversation.v1")
    async def answer(self, turn: Turn) -> str:
        return self.agent.agent_id

async def test_a_function(cg_kernel, cg_worker):
    seen.append(cg_kernel.project_id)
    async with cg_worker(answer):
        turn = await cg_kernel.dispatch("desk", {"text": "hi"})
        assert (await cg_kernel.closed(turn)).final_payload == {"text": "HI"}

async def test_a_class(cg_kernel, cg_worker, tmp_path):
    assert cg_kernel.project_id not in seen
    seen.append(cg_kernel.project_id)
    cg_kernel.faults.answer("finish", times=1)
    async with cg_worker(Desk, agent_id="bell"):
        turn = await cg_kernel.dispatch("bell", None)
        assert (await cg_kernel.closed(turn)).final_payload == "bell"
    assert (tmp_path / "state").exists()

async def test_a_worker_of_a_program_runs_without_its_profile(cg_kernel, cg_worker):
    made = Desk.from_profile("acme/bell")
    async with cg_worker(made) as worker:
        assert str(made) == "Desk(acme/bell by its profile)"
        assert worker is not made
        turn = await cg_kernel.dispatch("bell", None)
        assert (await cg_kernel.closed(turn)).final_payload == "bell"

def test_without_any():
    assert len(set(seen)) == 4
"""


def run_pytest(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [warm_python(), "-m", "pytest", "-p", "no:cacheprovider", *argv]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_its_fixtures_give_each_test_a_project_and_a_worker(tmp_path: Path) -> None:
    """Twice each test: on asyncio and on trio, with one kernel for all."""
    (tmp_path / "test_desk.py").write_text(SUITE)
    ran = run_pytest(tmp_path, "-q", "--strict-markers")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "7 passed" in ran.stdout


def test_its_fixtures_say_what_they_are(tmp_path: Path) -> None:
    """`pytest --fixtures` lists them."""
    listed = run_pytest(tmp_path, "--fixtures").stdout
    assert all(name in listed for name in ("cg_server", "cg_kernel", "cg_worker"))


def test_it_loads_no_kernel_until_a_fixture_is_used() -> None:
    """pytest loads it wherever cgworker is installed; other suites pay nothing for it."""
    program = "import sys, cgworker.testing.plugin\nprint([m for m in sys.modules if 'cgworker.kernel' in m])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
