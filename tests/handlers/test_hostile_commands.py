"""Commands that do what they should not, and surroundings that fail: each ends in a plain outcome."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import CommandHandler, Failed, Reason, Succeeded, Turn
from cgworker.errors import UsageError
from cgworker.handlers import child
from cgworker.handlers.files import read_regular
from cgworker.handlers.folder import CommandFiles, checkpoint_of
from cgworker.outcome import RETRY_REASON
from tests.handlers.test_command import interrupt
from tests.turns import CLAIM_TOKEN, CREDENTIAL, make_turn


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


async def run(script: str, turn: Turn | None = None, **options: Any) -> Any:
    handler = CommandHandler(["sh", "-c", script], **{"on_line": lambda _: None, **options})
    with anyio.fail_after(60):
        return await handler(turn or make_turn())


# ---------------------------------------------------------------- secrets


@pytest.mark.parametrize("secret", [CREDENTIAL, CLAIM_TOKEN])
async def test_a_secret_that_a_command_found_out_is_not_published(secret: str) -> None:
    """Results, suspensions and reports are public: a known secret is masked in each."""
    split = f"{secret[:5]}''{secret[5:]}"  # so that it is not in argv
    say = f"""printf '{{"error": "%s", "reason": "%s", "note": "%s"}}' {split} {split} {split}"""
    assert secret not in str(await run(f"{say} > $CG_FINAL_FILE"))
    assert secret not in str(await run(f"{say} > $CG_SUSPEND_FILE"))
    failed = await run(f"{say} > $CG_FAILURE_FILE; echo {split} >&2; exit 1")
    assert secret not in str(failed)
    assert failed.payload["stderr_tail"] == ["***"]


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("name", ["SUSPEND", "FAILURE"])
@pytest.mark.parametrize("make", ["mkfifo", "mkdir", "ln -s /dev/zero", "truncate -s 20G"])
async def test_what_stands_in_a_files_place_never_hangs_the_worker(name: str, make: str) -> None:
    """FIFOs, folders, devices, files without end."""
    status = 0 if name == "SUSPEND" else 1
    outcome = await run(f"{make} $CG_{name}_FILE; exit {status}")
    assert isinstance(outcome, Failed)
    assert outcome.payload["message"]


async def test_a_file_that_grows_while_it_is_read_is_read_to_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size may be looked at before somebody goes on writing."""
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    look = os.fstat

    def look_and_grow(descriptor: int) -> os.stat_result:
        found = look(descriptor)
        with path.open("ab") as file:
            file.write(b"6" * 1000)
        return found

    monkeypatch.setattr(os, "fstat", look_and_grow)
    assert len(read_regular(path, 1005)) <= 1005


async def test_a_work_folder_removed_in_the_middle_is_no_result_and_no_crash(tmp_path: Path) -> None:
    """What was written there is gone; the turn says so."""
    outcome = await run("echo 1 > $CG_FINAL_FILE; rm -r $(dirname $CG_FINAL_FILE)", work_dir=tmp_path / "w")
    assert outcome.payload["error"] == "worker_command_missing_final"


async def test_a_command_without_a_folder_is_still_ended(tmp_path: Path) -> None:
    """There is no place for the stop file: signals have to do."""
    turn, started = make_turn(), tmp_path / "started"
    async with anyio.create_task_group() as group:
        group.start_soon(interrupt, turn, started, Reason.STOP, 1.0)
        script = f"rm -r $(dirname $CG_FINAL_FILE); touch {started}; sleep 1000"
        outcome = await run(script, turn)
    assert outcome.payload["child_exit_code"] < 0


async def test_a_folder_that_an_earlier_run_left_in_a_files_place_is_moved_aside(tmp_path: Path) -> None:
    """It neither blocks the work folder for ever, nor is it deleted: nobody knows what is in it."""
    (tmp_path / "final.json" / "precious").mkdir(parents=True)
    assert await run("echo 1 > $CG_FINAL_FILE", work_dir=tmp_path) == Succeeded(1)
    [aside] = [path async for path in anyio.Path(tmp_path).glob("final.json.*.old")]
    assert await (aside / "precious").is_dir()


@pytest.mark.parametrize("place", ["/dev/null", "/tmp"])
def test_a_place_that_holds_something_else_is_refused_before_a_claim(place: str) -> None:
    """Old files are removed before a command runs: nobody's device or folder must be."""
    for name in ("context", "final", "suspend", "failure"):
        with pytest.raises(UsageError, match="no regular file"):
            CommandHandler(["sh"], files=CommandFiles(**{name: Path(place)})).check()


def test_arguments_and_folders_that_cannot_be_used_are_refused_before_a_claim(tmp_path: Path) -> None:
    """Each of them would fail turn after turn."""
    with pytest.raises(UsageError, match="NUL"):
        CommandHandler(["sh", "-c", "a\0b"]).check()
    with pytest.raises(UsageError, match="working directory"):
        CommandHandler(["sh"], cwd=tmp_path / "missing").check()


@pytest.fixture(params=[0o000, 0o077, 0o277])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
async def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    """Neither open to others, nor closed to us."""
    work = tmp_path / "w"
    script = "stat -c %a $CG_CONTEXT_FILE $CG_INPUT_FILE $(dirname $CG_INPUT_FILE) >&2; exit 1"
    for outcome in (await run(script), await run(script, work_dir=work)):
        modes = [int(mode, 8) for mode in outcome.payload["stderr_tail"]]
        assert all(mode & 0o077 == 0 for mode in modes)
        assert all(mode & 0o400 for mode in modes)


async def test_two_turns_in_one_work_folder_do_not_take_each_others_results(tmp_path: Path) -> None:
    """The second waits; its worker may be another process."""
    outcomes: dict[str, Any] = {}
    script = "sleep 0.2; cp $CG_INPUT_FILE $CG_FINAL_FILE; sleep 0.2"

    async def work(input: str) -> None:
        outcomes[input] = await run(script, make_turn(input, turn_id=f"T-{input}"), work_dir=tmp_path)

    async with anyio.create_task_group() as group:
        for name in ("a", "b", "c"):
            group.start_soon(work, name)
    assert outcomes == {name: Succeeded(name) for name in "abc"}


async def test_a_checkpoint_that_is_a_folder_goes_with_the_turn_too() -> None:
    """Whatever the command made of it."""
    turn = make_turn()
    handler = CommandHandler(["sh", "-c", "mkdir -p $CG_CHECKPOINT_FILE/deep; echo 1 > $CG_FINAL_FILE"])
    assert await handler(turn) == Succeeded(1)
    handler.forget(turn)
    assert not checkpoint_of(turn).exists()


# ---------------------------------------------------------------- a system that is short of something


async def test_a_result_that_can_neither_be_sent_nor_kept_is_still_a_typed_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk is full."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    lines: list[str] = []
    monkeypatch.setattr(shutil, "move", full)
    outcome = await run("echo 1234567 > $CG_FINAL_FILE", max_payload_bytes=5, on_line=lines.append)
    assert outcome.payload["error"] == "result_too_large"
    assert "No space left" in lines[-1]


async def test_a_disk_that_fills_up_under_the_command_is_the_commands_failure() -> None:
    """It says so itself; a result cut short by it is not taken for one."""
    outcome = await run('echo \'{"text": "half\' > $CG_FINAL_FILE; echo no space left >&2; exit 1')
    assert outcome.payload == {
        "error": "worker_command_failed",
        "child_exit_code": 1,
        "stderr_tail": ["no space left"],
    }
    assert (await run('printf \'{"text": "half\' > $CG_FINAL_FILE')).payload[
        "error"
    ] == "worker_final_invalid"


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
async def test_a_system_without_room_for_a_process_hands_the_turn_back(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is not missing, and the turn not at fault."""

    async def no_room(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(child, "open_process", no_room)
    outcome = await run("true")
    assert (outcome.reason, outcome.resume_after_seconds) == (RETRY_REASON, 5.0)


async def test_output_that_nobody_can_take_does_not_end_the_command() -> None:
    """A listener that fails is left out from then on."""

    def fail(_: str) -> None:
        raise BrokenPipeError

    assert await run("echo a; echo b; sleep 0.1; echo 1 > $CG_FINAL_FILE", on_line=fail) == Succeeded(1)


# ---------------------------------------------------------------- commands with their own ideas


async def test_a_command_that_closes_its_streams_is_waited_for() -> None:
    """The end of a pipe is not the end of a process."""
    assert await run("exec >&- 2>&-; sleep 0.3; echo 1 > $CG_FINAL_FILE") == Succeeded(1)


async def test_a_command_whose_children_hold_its_pipes_ends_when_it_ends() -> None:
    """Its group is ended after it, and not waited for."""
    assert await run("sleep 1000 & echo 1 > $CG_FINAL_FILE") == Succeeded(1)


async def test_a_command_that_cannot_be_interrupted_by_itself_is_killed(tmp_path: Path) -> None:
    """SIGTERM ignored by every process of the group."""
    turn, started = make_turn(), tmp_path / "started"
    program = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f" os.fork(); open({str(started)!r}, 'w'); time.sleep(1000)"
    )
    async with anyio.create_task_group() as group:
        group.start_soon(interrupt, turn, started, Reason.DEADLINE, 1.0)
        outcome = await run(f'exec {sys.executable} -c "{program}"', turn)
    assert outcome.payload["child_exit_code"] == -9
