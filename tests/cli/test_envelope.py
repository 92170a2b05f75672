"""What every command has in common: its answer, its exit status, and what becomes of whatever goes wrong."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path

import pytest

from cgworker.cli.envelope import say
from cgworker.cli.problems import problem_of
from cgworker.errors import (
    AnswerInvalid,
    ConflictError,
    FencingError,
    InvalidRequest,
    KernelOverloaded,
    KernelRefused,
    KernelTimedOut,
    KernelUnreachable,
    ProfileError,
    UsageError,
    WaitTimedOut,
)
from tests.cli.conftest import Cg, Kernel


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["zzz"],
        ["turn"],
        ["turn", "zzz"],
        ["turn", "get"],
        ["turn", "get", "--zzz"],
        ["turn", "get", "--project-id", "p", "--turn-id", "T-1", "stray"],
        ["turn", "get", "--proj", "p", "--turn-id", "T-1"],
        ["project", "feed", "--project-id", "p", "--limit", "0"],
        ["project", "feed", "--project-id", "p", "--limit", "many"],
        ["turn", "wait", "--project-id", "p", "--turn-id", "T-1", "--timeout-seconds", "-1"],
        ["project", "turn", "list", "--project-id", "p", "--state", "done"],
        ["project", "turn", "list", "--project-id", "p", "--outcome", "fail"],
        ["worker", "once", "--profile", "p/a"],
        ["worker", "once", "--profile", "p/a", "--command"],
        ["worker", "claim", "run", "--project-id", "p", "--agent-id", "a"],
        ["worker", "claim", "finish", "--claim-file", "c", "--outcome", "great"],
        ["dispatch", "--project-id", "p", "--requested-by", "a", "--target-agent", "b", "--turn-kind", "k"],
    ],
)
def test_a_wrong_command_line_is_an_envelope_as_well(cg: Cg, argv: list[str]) -> None:
    """Code invalid_arguments, status 2 in the envelope, exit status 1; flags are not abbreviated."""
    ran = cg(*argv)
    assert ran.exit_code == 1
    assert (ran.error["code"], ran.error["status"]) == ("invalid_arguments", 2)
    assert ran.error["message"]


@pytest.mark.parametrize(
    "argv",
    [["--version"], ["-h"], ["--help"], ["turn", "-h"], ["worker", "claim", "--help"], ["turn", "get", "-h"]],
)
def test_version_and_help_are_plain_text(cg: Cg, argv: list[str]) -> None:
    """They are for people, whoever reads them."""
    ran = cg(*argv)
    assert ran.exit_code == 0
    assert ran.stdout.startswith("cg 0." if "--version" in argv else "Usage: cg")
    assert "╭" not in ran.stdout


def test_the_envelope_is_one_compact_line_of_utf8(cg: Cg) -> None:
    """Separators without spaces, and no escapes for what UTF-8 can say."""
    ran = cg("turn", "get", "--profile", "p/ä", "--project-id", "p", "--turn-id", "T-1")
    error = '{"code":"profile_missing","message":"CLI profile not found: p/ä","status":404}'
    assert ran.stdout == '{"ok":false,"error":' + error + "}\n"


def test_json_is_asked_for_by_a_flag_of_every_command_but_not_of_the_child(cg: Cg) -> None:
    """What follows --command or -- is another program's."""
    for argv in (
        ["turn", "get", "--json", "--project-id", "p", "--turn-id", "T-1", "--profile", "p/a"],
        ["worker", "once", "--json", "--profile", "p/a", "--command", "true", "--json"],
    ):
        assert cg(*argv).error["code"] == "profile_missing"


@pytest.mark.parametrize(
    ("raised", "code", "status"),
    [
        (ConflictError("no"), "conflict", 409),
        (FencingError("no"), "fencing", 409),
        (KernelRefused("no", code="join_code_used", status=403), "join_code_used", 403),
        (KernelUnreachable("refused"), "request_error", 503),
        (KernelTimedOut("late"), "timeout", 408),
        (KernelOverloaded("busy", status=503), "http_error", 503),
        (KernelOverloaded("late", status=408), "timeout", 408),
        (AnswerInvalid("html"), "invalid_json", 422),
        (WaitTimedOut("late"), "timeout", 408),
        (UsageError("no"), "invalid_arguments", 2),
        (ProfileError("profile_stale", "no", status=401), "profile_stale", 401),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), "file_not_found", 404),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "permission_denied", 403),
        (OSError(errno.EROFS, "Read-only file system", "x"), "permission_denied", 403),
        (OSError(errno.ENOSPC, "No space left on device", "x"), "io_error", 500),
        (json.JSONDecodeError("no", "", 0), "invalid_json", 422),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), "invalid_input", 422),
        (ValueError("no"), "invalid_input", 422),
        (RecursionError("no"), "invalid_input", 422),
        (ModuleNotFoundError("no", name="asyncpg"), "missing_extra", 2),
        (ModuleNotFoundError("no", name="cgworker.gone"), "internal_error", 500),
        (ZeroDivisionError("no"), "internal_error", 500),
        (ExceptionGroup("group", [ExceptionGroup("group", [ConflictError("no")])]), "conflict", 409),
    ],
)
def test_every_exception_is_a_problem_with_a_code(raised: Exception, code: str, status: int) -> None:
    """Nothing gets out as a bare traceback."""
    problem = problem_of(raised)
    assert (problem.code, problem.status) == (code, status)


def test_a_validation_answer_is_shown_to_the_letter() -> None:
    """Programs that parsed the reference's message go on parsing ours."""
    refused = InvalidRequest([{"loc": ["body", "x"], "msg": "Field required"}])
    refused.answer = '{"detail":[...]}'
    assert problem_of(refused).message == '{"detail":[...]}'


def test_a_fault_of_our_own_shows_where_it_is(cg: Cg, monkeypatch: pytest.MonkeyPatch) -> None:
    """The envelope is for the program, the traceback for the bug report."""
    monkeypatch.setattr("cgworker.cli.commands.turn.get.as_reader", lambda *_: 1 / 0)
    ran = cg("turn", "get", "--project-id", "p", "--turn-id", "T-1")
    assert (ran.exit_code, ran.error["code"]) == (1, "internal_error")
    assert "ZeroDivisionError" in ran.stderr


def test_what_to_do_is_said_beside_the_envelope(cg: Cg) -> None:
    """A server that is down is named, with the command that starts one; stdout stays the envelope."""
    ran = cg(
        "turn", "get", "--base-url", "http://127.0.0.1:1", "--project-id", "p", "--turn-id", "T-1",
        "--auth-token", "x", "--caller-project-id", "p", "--caller-agent-id", "a",
    )  # fmt: skip
    assert ran.error == {"code": "request_error", "message": "[Errno 111] Connection refused", "status": 503}
    assert "http://127.0.0.1:1" in ran.stderr
    assert "cg local run" in ran.stderr


def test_a_refusal_for_want_of_a_right_names_the_grant() -> None:
    """A requester has no rights over its turns; who can give them is told."""
    refused = FencingError("requested_by is not authorized to stop this turn")
    assert "turn.stop.any" in (problem_of(refused).advice or "")


def test_a_refused_credential_is_told_with_what_to_do(cg: Cg, kernel: Kernel) -> None:
    """The kernel's words name headers, which nobody types who uses `cg`."""
    where = ("turn", "list", "--base-url", kernel.url, "--project-id", kernel.project)
    named = ("--caller-project-id", kernel.project, "--caller-agent-id", "desk")
    for flags, message, told in (
        (("--auth-token", "cgac_a.b"), "claimed agent identity headers are required", "--caller-agent-id"),
        (("--auth-token", "hunter2", *named), "invalid agent credential token format", "cgac_ID.SECRET"),
        (("--auth-token", "cgac_a.b", *named), "agent credential not found", "cg agent join URL CODE"),
    ):
        ran = cg(*where, *flags)
        assert (ran.error["code"], ran.error["message"].partition(":")[0]) == ("unauthorized", message)
        assert told in ran.stderr


def test_a_message_of_another_cause_gets_no_advice_by_its_words() -> None:
    """Advice goes by what a refusal is, and a message may quote anything."""
    refused = FencingError("turn is not running: it was not authorized to stop by hand")
    assert problem_of(refused).advice is None


def test_a_file_where_a_folder_should_be_is_told_as_such(cg: Cg, tmp_path: Path) -> None:
    """A config that cannot be written is one clear error."""
    (tmp_path / "file").write_text("")
    ran = cg("setup", "project", "client-config", "--config", str(tmp_path / "file" / "config.json"))
    assert (ran.exit_code, ran.error["code"]) == (1, "io_error")
    assert os.strerror(errno.EEXIST) in ran.error["message"] or "file" in ran.error["message"]


@pytest.mark.parametrize("content", ["{", "[]", '{"profiles": 3}', "[" * 100_000])
def test_a_config_that_cannot_be_read_is_named(cg: Cg, tmp_path: Path, content: str) -> None:
    """The message is the same for every file, so the hint says which it is."""
    config = tmp_path / "config.json"
    config.write_text(content)
    ran = cg("turn", "get", "T-1", "--config", str(config))
    assert ran.error["status"] == 422
    assert f"{config}: mend it" in ran.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full stands for a disk that is full")
def test_a_stderr_that_takes_nothing_ends_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers say there where they listen, and begin all the same."""
    with Path("/dev/full").open("w", buffering=1, encoding="utf-8") as full:
        monkeypatch.setattr("sys.stderr", full)
        say("hint: this is only advice")
        monkeypatch.undo()
        with suppress(OSError):  # what it still holds
            full.close()
