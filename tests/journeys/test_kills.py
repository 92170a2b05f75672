"""Workers killed with SIGKILL, again and again, while a parent of a hundred children is at work."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import anyio
import pytest

from cgworker import KernelClient
from cgworker.testing import LocalKernel
from tests.journeys.conftest import closed

COUNT = 100
SECONDS_BETWEEN_KILLS = (0.4, 1.2)


@pytest.fixture
def anyio_backend() -> str:
    """The workers are processes of their own."""
    return "asyncio"


class Crew:
    """A worker process for each role; whoever is killed is replaced."""

    def __init__(self, kernel: LocalKernel, clients: dict[str, KernelClient], folder: Path) -> None:
        self._kernel = kernel
        self._clients = clients
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.kill_count = 0

    def start(self, role: str) -> None:
        (token,) = self._clients[role].secrets
        argv = [role, self._kernel.base_url, self._kernel.project_id, role, str(COUNT), str(self.journal)]
        self._processes[role] = subprocess.Popen(
            [sys.executable, "-m", "tests.journeys.fan_out", *argv],
            env={**os.environ, "CG_TEST_TOKEN": token},
            stderr=subprocess.DEVNULL,
        )

    def replace(self, role: str) -> None:
        self._processes[role].kill()
        self._processes[role].wait()
        self.kill_count += 1
        self.start(role)

    def end(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    @property
    def journal(self) -> Path:
        return self._folder / "ran"


async def test_a_fan_out_gives_all_its_results_under_kills(kernel: LocalKernel, tmp_path: Path) -> None:
    """Every child once, every result there; run again only what a kill cut off in the middle."""
    chance = random.Random(seed := random.randrange(10**6))
    print(f"seed {seed}")  # noqa: T201  # pytest shows it if this fails
    async with await kernel.agent("desk") as desk, await kernel.agent("expert", capacity=4) as expert:
        crew = Crew(kernel, {"desk": desk, "expert": expert}, tmp_path)
        turn = await kernel.dispatch("desk", {})
        try:
            crew.start("desk")
            crew.start("expert")
            async with anyio.create_task_group() as killing:
                killing.start_soon(kill_now_and_then, crew, chance)
                found = await closed(desk, turn, seconds=100)
                killing.cancel_scope.cancel()
        finally:
            crew.end()
        children = (await desk.projections.lineage(turn.project_id, turn.turn_id, limit=500)).direct_children
    assert (found.outcome, found.final_payload) == ("succeeded", sum(n * n for n in range(COUNT)))
    assert [child.outcome for child in children] == ["succeeded"] * COUNT
    ran = Counter(crew.journal.read_text().split())
    assert ran.keys() == {str(n) for n in range(COUNT)}
    assert crew.kill_count > 0
    assert ran.total() - COUNT <= 4 * crew.kill_count


async def kill_now_and_then(crew: Crew, chance: random.Random) -> None:
    for _ in range(6):
        await anyio.sleep(chance.uniform(*SECONDS_BETWEEN_KILLS))
        crew.replace(chance.choice(["desk", "expert"]))
