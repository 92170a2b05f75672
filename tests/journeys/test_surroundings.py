"""The disk fills up, the machine sleeps: what a worker does about it."""

from __future__ import annotations

import errno
import os
from typing import Any

import anyio
import pytest

from cgworker import CommandHandler, Turn, Worker, WorkerOptions, lease
from cgworker.events import LeaseEnded
from cgworker.handlers import folder
from cgworker.outcome import Suspended
from cgworker.testing import LocalKernel
from cgworker.worker.outbox import files
from tests.journeys.conftest import Witness, closed, working


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_disk_that_does_not_take_the_result_does_not_keep_it_from_the_kernel(
    kernel: LocalKernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is sent without being stored first, and the log says so."""
    monkeypatch.setattr(files, "write_private", no_space)
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=WorkerOptions(outbox="before"))

        @worker.turn()
        async def handle(_: Turn) -> int:
            return 1

        turn = await kernel.dispatch("desk", {})
        await worker.once()
        assert (await closed(desk, turn)).final_payload == 1
    assert "could not be stored" in caplog.text


async def test_a_disk_without_room_for_a_commands_files_hands_the_turn_back(
    kernel: LocalKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the turn's fault; whoever has room closes it."""
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {"n": 1})
        worker = Worker(desk, CommandHandler(["sh", "-c", "cp $CG_INPUT_FILE $CG_FINAL_FILE"]))
        with monkeypatch.context() as patched:
            patched.setattr(folder, "write_private", no_space)
            report = await worker.once()
            assert isinstance(getattr(report, "outcome", None), Suspended)
        await desk.turns.resume(turn, requested_by=worker.agent)
        await worker.once()
        assert (await closed(desk, turn)).final_payload == {"n": 1}


async def test_after_a_machines_sleep_a_lease_that_ended_meanwhile_is_given_up_at_once(
    kernel: LocalKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of the lease counts the sleep; nobody waits for the next renewal to find out."""
    witness, slept_seconds, runs = Witness(), 0.0, []
    clock = lease._READ_CLOCK  # noqa: SLF001  # the only clock there is
    monkeypatch.setattr(lease, "_READ_CLOCK", lambda: clock() + slept_seconds)
    async with await kernel.agent("desk") as desk:
        worker = Worker(desk, options=WorkerOptions(wait_seconds=5), listener=witness)
        started = anyio.Event()

        @worker.turn()
        async def handle(turn: Turn) -> int:
            runs.append(turn.attempt)
            if turn.attempt == 1:
                started.set()
                await anyio.sleep_forever()
            return turn.attempt

        turn = await kernel.dispatch("desk", {})
        async with working(worker):
            await started.wait()
            slept_seconds = 3600.0
            await witness.saw(LeaseEnded, seconds=3)
            assert (await closed(desk, turn)).final_payload == 2
    assert runs == [1, 2]
