"""The command contract: files, exit statuses and outcomes (command line 4, differences 17, 24, 25)."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import CommandExit, CommandHandler, Failed, Reason, Succeeded, Suspended, Turn
from cgworker.errors import CommandNotFound, UsageError
from cgworker.outcome import RETRY_REASON
from tests.turns import CLAIM_TOKEN, CREDENTIAL, make_turn, renewed_late


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


async def run(script: str, input: Any = None, **options: Any) -> Any:
    return await CommandHandler(["sh", "-c", script], on_line=lambda _: None, **options)(make_turn(input))


async def test_the_final_file_is_the_result() -> None:
    """Any JSON value, null included, and numbers as they were written."""
    assert await run("""echo '{"a": 1}' > $CG_FINAL_FILE""") == Succeeded({"a": 1})
    assert await run("echo null > $CG_FINAL_FILE") == Succeeded(None)
    outcome = await run("echo 1.50000000000000000001 > $CG_FINAL_FILE", final_record_role="answer")
    assert (repr(outcome.payload), outcome.role) == ("1.50000000000000000001", "answer")


async def test_a_command_gets_its_turn_in_files() -> None:
    """The whole context, just the input, and who it is."""
    script = "cp $CG_INPUT_FILE $CG_FINAL_FILE; test -s $CG_CONTEXT_FILE && test $CG_TURN_ID = T-1"
    assert await run(script, {"q": 1}) == Succeeded({"q": 1})
    outcome = await run("cp $CG_CONTEXT_FILE $CG_FINAL_FILE", "hello")
    assert outcome.payload["semantic_items"][0]["content"]["cards"][0]["content"]["text"] == "hello"


async def test_no_final_file_is_a_failure() -> None:
    """A command that says nothing has not done its work."""
    assert await run("true") == Failed({"error": "worker_command_missing_final", "child_exit_code": 0})


async def test_a_failed_command_ignores_its_final_file() -> None:
    """The exit status counts; a signal is negative; the end of stderr says why."""
    assert await run("echo {} > $CG_FINAL_FILE; exit 3") == Failed(
        {"error": "worker_command_failed", "child_exit_code": 3}
    )
    assert (await run("kill -9 $$")).payload["child_exit_code"] == -signal.SIGKILL
    assert (await run("echo first; echo bad input >&2; exit 1")).payload["stderr_tail"] == ["bad input"]


async def test_the_failure_file_overlays_the_report() -> None:
    """An object is merged; anything else is `details`; one that is not JSON changes nothing."""
    assert (await run("""echo '{"error":"mine","x":1}' > $CG_FAILURE_FILE; exit 3""")).payload == {
        "error": "mine",
        "child_exit_code": 3,
        "x": 1,
    }
    assert (await run("""echo '"boom"' > $CG_FAILURE_FILE; exit 3""")).payload["details"] == "boom"
    report = (await run("echo {oops > $CG_FAILURE_FILE; exit 3")).payload
    assert report["error"] == "worker_command_failed"
    assert "failure file was not used" in report["message"]


async def test_the_suspend_file_wins_over_the_final_file() -> None:
    """With a reason, trimmed, or a default one."""
    script = "echo {} > $CG_FINAL_FILE; echo %s > $CG_SUSPEND_FILE"
    assert await run(script % """'{"reason":" wait ","note":"n"}'""") == Suspended("wait", "n")
    assert await run(script % "'{}'") == Suspended("worker_suspended")


@pytest.mark.parametrize(
    "said", ["[]", '{"reason": 1}', '{"reason": "  "}', '{"reason":"r","note":2}', "{oops"]
)
async def test_an_unusable_suspend_file_is_a_failure(said: str) -> None:
    """Never a leaked claim (difference 17)."""
    outcome = await run(f"echo {shlex.quote(said)} > $CG_SUSPEND_FILE")
    assert (outcome.payload["error"], outcome.payload["child_exit_code"]) == ("worker_suspend_invalid", 0)


@pytest.mark.parametrize(
    "script",
    [
        "echo '{oops' > $CG_FINAL_FILE",
        ": > $CG_FINAL_FILE",
        "printf '\\377\\376' > $CG_FINAL_FILE",
        "echo NaN > $CG_FINAL_FILE",
        "ln -s /etc/passwd $CG_FINAL_FILE",
        "mkfifo $CG_FINAL_FILE",
        "mkdir $CG_FINAL_FILE",
        "ln -s /dev/zero $CG_FINAL_FILE",
    ],
)
async def test_an_unusable_final_file_is_a_failure(script: str) -> None:
    """Whatever is wrong with it, it is said and nothing hangs."""
    with anyio.fail_after(60):
        outcome = await run(script)
    assert (outcome.payload["error"], outcome.payload["child_exit_code"]) == ("worker_final_invalid", 0)
    assert outcome.payload["message"]


async def test_a_final_file_too_large_is_a_typed_failure_and_kept(tmp_path: Path) -> None:
    """The kernel could not take it; a person can still find it."""
    outcome = await run("echo '\"1234567890\"' > $CG_FINAL_FILE", max_payload_bytes=5)
    assert outcome.payload["error"] == "result_too_large"
    [kept] = [file async for file in anyio.Path(tmp_path / "state" / "cgworker" / "kept").iterdir()]
    assert json.loads(await kept.read_text()) == "1234567890"


async def test_status_75_hands_the_turn_back() -> None:
    """To be tried again, by any worker."""
    outcome = await run("exit 75")
    assert (outcome.reason, outcome.resume_after_seconds) == (RETRY_REASON, 1.0)


async def test_no_secret_reaches_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in its environment, not in its files, not in its arguments, and not in what it prints."""
    monkeypatch.setenv("CG_AGENT_CREDENTIAL_TOKEN", CREDENTIAL)
    monkeypatch.setenv("INNOCENT", f"x{CREDENTIAL}y")
    monkeypatch.setenv("PG_DSN", "postgresql://u:p@h/d")
    monkeypatch.setenv("PG_LISTEN_DSN", "postgresql://u:p@h/d")
    lines: list[str] = []
    script = f"env; cat $CG_CONTEXT_FILE $CG_INPUT_FILE; cat /proc/$$/cmdline; echo printed {CLAIM_TOKEN}"
    await CommandHandler(
        ["sh", "-c", script.replace(CLAIM_TOKEN, "claim-token-''0123456789")], on_line=lines.append
    )(make_turn())
    everything = "\n".join(lines)
    assert CREDENTIAL not in everything
    assert CLAIM_TOKEN not in everything
    assert "PG_DSN" not in everything
    assert "PG_LISTEN_DSN" not in everything
    assert "printed ***" in everything


async def test_its_files_are_private_and_go_with_the_turn() -> None:
    """0600 in a 0700 folder that is removed at the end."""
    script = "stat -c %a $CG_CONTEXT_FILE $CG_INPUT_FILE $(dirname $CG_FINAL_FILE) | tr '\\n' ' ' >&2; exit 1"
    exits: list[CommandExit] = []
    outcome = await run(script, on_exit=lambda _, ended: exits.append(ended))
    assert outcome.payload["stderr_tail"] == ["600 600 700 "]
    with anyio.fail_after(60):
        while exits[0].context_file.parent.exists():  # noqa: ASYNC110  # the guard's doing
            await anyio.sleep(0.01)


async def test_a_work_dir_stays_and_old_files_in_it_do_not_count(tmp_path: Path) -> None:
    """A final file of an earlier run is no result of this one."""
    (tmp_path / "final.json").write_text('"old"')
    outcome = await run("true", work_dir=tmp_path)
    assert outcome.payload["error"] == "worker_command_missing_final"
    assert (tmp_path / "context.json").exists()


async def test_a_missing_command_is_refused_before_a_claim(tmp_path: Path) -> None:
    """The worker asks the handler first."""
    plain = tmp_path / "plain"
    plain.write_text("text")
    for name in ("/no/such/command", str(plain), "no-such-command-on-the-path"):
        with pytest.raises(CommandNotFound, match=Path(name).name):
            CommandHandler([name]).check()
    CommandHandler(["sh"]).check()


def test_a_command_is_searched_for_until_it_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy worker checks it before each claim; one that has gone is missed at once."""
    searches, which = list[str](), shutil.which

    def counting(name: str, **options: Any) -> str | None:
        searches.append(name)
        return which(name, **options)

    monkeypatch.setattr(shutil, "which", counting)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (command := tmp_path / "a-command-of-this-test").touch(0o700)
    for _ in range(3):
        CommandHandler([command.name]).check()
    assert searches == [command.name]
    command.unlink()
    with pytest.raises(CommandNotFound):
        CommandHandler([command.name]).check()


def test_a_work_folder_that_cannot_be_written_is_refused_before_a_claim(tmp_path: Path) -> None:
    """With what to do about it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write to the folder"):
        CommandHandler(["sh"], work_dir=tmp_path / "file" / "below").check()


async def test_a_work_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    """It may be anybody's: only what is made here is closed to others."""
    folder = anyio.Path(tmp_path)
    await folder.chmod(0o755)
    CommandHandler(["sh"], work_dir=tmp_path).check()
    await run("true", work_dir=tmp_path)
    assert (await folder.stat()).st_mode & 0o777 == 0o755


async def test_files_that_cannot_be_written_hand_the_turn_back(tmp_path: Path) -> None:
    """A full disk is not the turn's fault, and it is not closed for it."""
    await anyio.Path(tmp_path / "file").write_text("")
    outcome = await run("true", work_dir=tmp_path / "file" / "below")
    assert outcome.reason == RETRY_REASON


async def interrupt(turn: Turn, started: Path, reason: Reason, grace: float) -> None:
    while not await anyio.Path(started).exists():  # noqa: ASYNC110  # the child's doing
        await anyio.sleep(0.01)
    turn.interrupt(reason, "a note", grace_seconds=grace)


async def interrupted(
    tmp_path: Path, script: str, reason: Reason = Reason.STOP, grace: float = 4.0
) -> tuple[Any, float]:
    """Run a script that creates $STARTED; interrupt it then; its outcome, and how long it took to end."""
    turn, started = make_turn(), tmp_path / "started"
    handler = CommandHandler(["sh", "-c", script.replace("$STARTED", str(started))], on_line=lambda _: None)
    async with anyio.create_task_group() as group:
        group.start_soon(interrupt, turn, started, reason, grace)
        began_at = anyio.current_time()
        outcome = await handler(turn)
    return outcome, anyio.current_time() - began_at


async def test_an_interruption_is_told_by_the_stop_file_first(tmp_path: Path) -> None:
    """A command that looks for it can end in its own way."""
    script = (
        "trap '' TERM; touch $STARTED; while [ ! -e $CG_STOP_FILE ]; do sleep 0.05; done;"
        " cp $CG_STOP_FILE $CG_FINAL_FILE"
    )
    outcome, _ = await interrupted(tmp_path, script)
    assert outcome == Succeeded({"reason": "stop", "note": "a note"})


async def test_then_its_group_is_asked_and_then_killed(tmp_path: Path) -> None:
    """SIGTERM can be handled; what ignores it is ended within the grace."""
    outcome, _ = await interrupted(
        tmp_path, "trap 'echo 1 > $CG_FINAL_FILE; exit 0' TERM; touch $STARTED; while :; do sleep 0.05; done"
    )
    assert outcome == Succeeded(1)
    (tmp_path / "started").unlink()
    outcome, seconds = await interrupted(
        tmp_path, "trap '' TERM; touch $STARTED; while :; do sleep 0.05; done", grace=1.0
    )
    assert outcome.payload["child_exit_code"] == -signal.SIGKILL
    assert seconds < 5


async def test_a_lost_lease_ends_it_at_once(tmp_path: Path) -> None:
    """Another worker may hold the turn as soon as the lease is over."""
    outcome, seconds = await interrupted(tmp_path, "touch $STARTED; sleep 1000", Reason.LEASE_LOST, grace=1.0)
    assert outcome.payload["child_exit_code"] == -signal.SIGTERM
    assert seconds < 3


async def test_a_checkpoint_is_there_at_the_next_attempt_until_the_turn_is_closed() -> None:
    """Bound to this very turn, as an outbox entry is."""
    turn = make_turn()
    handler = CommandHandler(
        ["sh", "-c", "echo x >> $CG_CHECKPOINT_FILE; wc -l < $CG_CHECKPOINT_FILE > $CG_FINAL_FILE"]
    )
    assert [(await handler(turn)).payload for _ in range(2)] == [1, 2]  # type: ignore[union-attr]
    other = make_turn(created_at="2026-02-02T00:00:00+00:00")
    assert (await handler(other)).payload == 1  # type: ignore[union-attr]
    handler.forget(turn)
    assert (await handler(turn)).payload == 1  # type: ignore[union-attr]


async def test_output_is_escaped_and_bounded() -> None:
    """It goes to somebody's terminal, and must not fill somebody's disk."""
    lines: list[str] = []
    program = (
        "import sys; write = sys.stdout.write; write('\\x1b[2J\\n');"
        " [write('z' * 100 + '\\n') for _ in range(100_000)]"
    )
    await CommandHandler([sys.executable, "-S", "-c", program], on_line=lines.append)(make_turn())
    assert lines[0] == "\\x1b[2J"
    assert sum(map(len, lines)) < 5_000_000
    assert "not shown" in lines[-1]


async def test_work_goes_on_in_the_working_directory_it_was_given(tmp_path: Path) -> None:
    """By default in ours."""
    assert (await run("pwd | sed 's/.*/\"&\"/' > $CG_FINAL_FILE", cwd=tmp_path)).payload == str(tmp_path)
    assert (await run("pwd | sed 's/.*/\"&\"/' > $CG_FINAL_FILE")).payload == str(Path.cwd())


@pytest.mark.parametrize(
    ("said", "seconds"),
    [('{"retry_after_seconds": 90}', 90.0), ('{"retry_after_seconds": 0}', 0.0), ("{}", 1.0)],
)
async def test_status_75_may_say_when_it_is_to_be_tried_again(said: str, seconds: float) -> None:
    """By `retry_after_seconds` in the suspend file; after a second otherwise."""
    outcome = await run(f"echo '{said}' > $CG_SUSPEND_FILE; exit 75")
    assert outcome == Suspended(RETRY_REASON, resume_after_seconds=seconds)


@pytest.mark.parametrize(
    "said",
    ["7", "{", *(f'{{"retry_after_seconds": {n}}}' for n in ('"soon"', "-1", "true", "1e300"))],
)
async def test_a_time_that_is_none_fails_the_turn(said: str) -> None:
    """Silence would be a retry at another time than was meant."""
    outcome = await run(f"echo '{said}' > $CG_SUSPEND_FILE; exit 75")
    assert outcome.payload["error"] == "worker_suspend_invalid"


async def test_a_command_that_the_guard_has_ended_is_handed_back() -> None:
    """The worker stood still and renewed the lease too late: that is no failure of the turn."""
    turn = make_turn(seconds=2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(renewed_late, turn)
        outcome: Any = await CommandHandler(["sleep", "60"])(turn)
    assert isinstance(outcome, Suspended)
    assert outcome.reason == RETRY_REASON
    assert "renewed too late" in str(outcome.note)
