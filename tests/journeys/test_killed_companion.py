"""NanoBot's companion is killed at each moment of a message; another one goes on with it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from cgworker import Turn, Worker, WorkerOptions
from cgworker.testing import LocalKernel
from tests.journeys.conftest import working
from tests.kernels import NewProject
from tests.warm import warm_folder

pytest.importorskip("nanobot", reason="no nanobot: pip install 'cgworker[nanobot]'")

from nanobot.bus.queue import MessageBus

from cgworker.adapters.nanobot_companion import NanobotCompanion
from tests.adapters.companion_killed import POINTS, message

COMPANION = "tests.adapters.companion_killed"


@pytest.fixture
def anyio_backend() -> str:
    """NanoBot runs on asyncio."""
    return "asyncio"


@pytest.fixture
async def kernel(new_project: NewProject) -> AsyncIterator[LocalKernel]:
    async with new_project(lease_seconds=30) as kernel:
        yield kernel


@pytest.mark.parametrize("point", POINTS)
async def test_a_message_is_one_turn_and_has_its_reply_wherever_the_companion_is_killed(
    point: str, kernel: LocalKernel, tmp_path: Path
) -> None:
    """A message that was not kept yet is its channel's to deliver again; one that was sent may come twice."""
    grants = ["turn.resume.any", "turn.stop.any"]
    async with await kernel.agent("desk") as desk, await kernel.agent("door", grants=grants) as door:
        worker = Worker(desk, options=WorkerOptions(outbox_path=tmp_path / "outbox", wait_seconds=5))

        @worker.turn()
        async def answer(turn: Turn) -> dict[str, str]:
            return {"text": f"{turn.input['text']}, too"}

        async with working(worker):
            about = (kernel.base_url, kernel.project_id, *door.secrets, str(tmp_path), point)
            ended = await anyio.run_process(
                [warm_folder(COMPANION) / "python", "-m", COMPANION, *about],
                env={**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")},
                check=False,
                stderr=subprocess.STDOUT,
            )
            assert ended.returncode == -signal.SIGKILL, ended.stdout.decode()
            bus = MessageBus()
            companion = NanobotCompanion(door, "desk", bus, folder=tmp_path / "kept")
            is_kept = bool(list((tmp_path / "kept").glob("*.json")))
            assert is_kept is (point != "taken") or point == "sent"
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(companion.run)
                if point == "taken":
                    await bus.publish_inbound(message())
                if is_kept or point == "taken":
                    with anyio.fail_after(60):
                        assert (await bus.consume_outbound()).content == "hello, too"
                        while list((tmp_path / "kept").glob("*.json")):  # noqa: ASYNC110  # it tells nobody
                            await anyio.sleep(0.02)
                tasks.cancel_scope.cancel()
            turns = (await door.projections.turns(kernel.project_id)).items
            assert [turn.outcome for turn in turns] == ["succeeded"]
