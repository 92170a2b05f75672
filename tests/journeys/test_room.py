"""A worker without room on its disk takes no work from those that have it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import anyio
import pytest

from cgworker import CommandHandler, Turn, UsageError, Worker, WorkerOptions
from cgworker.events import ClaimingFailed, ClaimingRecovered
from cgworker.paths import state_folder
from cgworker.testing import LocalKernel
from cgworker.worker.process.health import WorkerHealth
from tests.journeys.conftest import Witness, closed, history, in_state, working


async def _answer(_: Turn) -> str:
    return "done"


async def test_a_state_folder_that_cannot_be_written_is_refused_before_the_first_claim(
    kernel: LocalKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says which folder, and what to set; the turn stays for others."""
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(in_the_way / "state"))
    async with await kernel.agent("desk") as desk:
        turn = await kernel.dispatch("desk", {})
        for worker in (Worker(desk, _answer), Worker(desk, CommandHandler(["true"]))):
            with pytest.raises(UsageError, match=r"cannot write to .*file.*set XDG_STATE_HOME"):
                await worker.run()
            with pytest.raises(UsageError, match="XDG_STATE_HOME"):
                await worker.once()
        assert "turn.claimed" not in await history(desk, turn)


async def test_a_commands_checkpoints_need_a_folder_even_if_results_have_one(
    kernel: LocalKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each of its turns is claimed, handed back and claimed again."""
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(in_the_way))
    async with await kernel.agent("desk") as desk:
        options = WorkerOptions(outbox_path=tmp_path / "outbox")
        turn = await kernel.dispatch("desk", {})
        with pytest.raises(UsageError, match="checkpoints"):
            await Worker(desk, CommandHandler(["true"]), options=options).run()
        assert "turn.claimed" not in await history(desk, turn)


@pytest.mark.parametrize("home", [None, "/nonexistent/home"])
def test_without_a_home_the_variable_to_set_is_named(
    home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container with a number for a user, or a service's account; a missing home is not made."""
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("HOME")
    if home is None:

        def nobody(_: int) -> None:
            raise KeyError

        monkeypatch.setattr(pwd, "getpwuid", nobody)
    else:
        monkeypatch.setenv("HOME", home)
    with pytest.raises(UsageError, match="set XDG_STATE_HOME"):
        state_folder("outbox")
    assert not os.path.exists("/nonexistent")  # noqa: PTH110  # the name of a folder, not a path of ours


async def test_no_place_for_temporary_files_is_refused_before_the_first_claim(
    kernel: LocalKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only root without a `/tmp`."""

    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    async with await kernel.agent("desk") as desk:
        with pytest.raises(UsageError, match="TMPDIR"):
            await Worker(desk, CommandHandler(["true"])).run()


async def test_an_outbox_that_cannot_be_written_any_more_stops_claims_until_it_can(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """The result in hand is delivered; then it claims nothing, is not ready, and goes on by itself."""
    outbox, witness = tmp_path / "outbox", Witness()
    async with await kernel.agent("desk") as desk:
        options = WorkerOptions(wait_seconds=1, outbox_path=outbox)
        worker = Worker(desk, options=options, listener=witness)
        health = WorkerHealth(worker)

        @worker.turn()
        async def handle(_: Turn, input: str) -> str:
            if input == "break":
                outbox.rmdir()
                outbox.touch()  # a file in the way: a folder that nobody can write, root neither
            return input

        async with working(worker):
            broken = await kernel.dispatch("desk", "break")
            assert (await closed(desk, broken)).outcome == "succeeded"
            await witness.saw(ClaimingFailed, seconds=10)
            waiting = await kernel.dispatch("desk", "wait")
            assert "cannot write" in str(await health.fault())
            await anyio.sleep(1.5)
            assert (await desk.turns.get(waiting)).state == "queued"
            outbox.unlink()
            assert (await closed(desk, waiting)).outcome == "succeeded"
        assert witness.of(ClaimingRecovered)


async def test_a_work_folder_that_cannot_be_written_any_more_stops_claims_until_it_can(
    kernel: LocalKernel, tmp_path: Path
) -> None:
    """It ends no worker, and no turn is claimed only to be handed back."""
    work_dir, witness = tmp_path / "work", Witness()
    async with await kernel.agent("desk") as desk:
        worker = Worker(
            desk,
            CommandHandler(["sh", "-c", "cp $CG_INPUT_FILE $CG_FINAL_FILE"], work_dir=work_dir),
            options=WorkerOptions(wait_seconds=1),
            listener=witness,
        )
        async with working(worker):
            first = await kernel.dispatch("desk", {"n": 1})
            assert (await closed(desk, first)).outcome == "succeeded"
            work_dir.rename(tmp_path / "aside")
            work_dir.touch()
            await witness.saw(ClaimingFailed, seconds=10)
            second = await kernel.dispatch("desk", {"n": 2})
            await anyio.sleep(1.5)
            assert (await desk.turns.get(second)).state == "queued"
            work_dir.unlink()
            await in_state(desk, second, "closed")
        assert (await history(desk, second)).count("turn.claimed") == 1
