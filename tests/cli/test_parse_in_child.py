"""The line of a command that stays is read in a child, and nobody notices but by the memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from tests.cli.conftest import Cg
from tests.cli.test_startup import python
from tests.warm import warm_python

LINE = (
    "worker", "loop", "--base-url", "http://127.0.0.1:9", "--project-id", "p", "--agent-id", "a",
    "--auth-token", "a secret", "--env", "A=1", "--env", "B=x y", "--grace-seconds", "1.5", "--clean-env",
    "--max-iterations", "3", "--json", "--command", "--", "sh", "-c", "a 'b' --json",
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a token for nobody."""
    token = tmp_path / "token"
    token.write_text("cgac_cred_x.secret-of-nobody\n")
    token.chmod(0o600)
    return tmp_path


def cg_process(home: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return a_process(home, warm_python(), "-m", "cgworker", *argv)


def a_process(home: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        env={**os.environ, "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_flags_arrive_whole() -> None:
    """Those that occur twice, secrets, numbers, and a command with words of its own."""
    told = python(
        f"""
        from functools import partial
        from cgworker.cli.parse_in_child import parse_in_child
        from cgworker.cli.root import read
        here, apart = read({LINE!r}), parse_in_child(partial(read, {LINE!r}))
        assert apart == here
        flags = apart.flags
        print(flags["server"].auth_token, flags["runtime"].env, flags["runtime"].grace_seconds, apart.as_json)
        """
    )
    assert told == "a secret ['A=1', 'B=x y'] 1.5 True\n"


@pytest.mark.parametrize(
    "argv",
    [
        ("worker", "loop", "--project-id", "p", "--agent-id", "a", "--command", "true"),
        ("worker", "run", "nowhere:worker"),
    ],
)
def test_what_reads_the_line_does_not_stay(argv: tuple[str, ...]) -> None:
    """Neither typer, nor pydantic, nor what draws on terminals."""
    told = python(
        f"""
        import sys
        from cgworker.cli.app import _leave_out_httpxs_command_line, run
        _leave_out_httpxs_command_line()
        status = run({argv!r}, is_process=True)
        print(status, {{name.partition(".")[0] for name in sys.modules}} & {{"typer", "pydantic", "rich"}})
        """
    )
    assert told.endswith("1 set()\n")  # there is no such profile, nor such a module


@pytest.mark.parametrize(
    "more",
    [
        ("--help",),
        (),
        ("--nope",),
        ("--grace-seconds", "-1", "--command", "true"),
        ("--command", "no-such-program"),
        ("--json", "--profile", "p/nobody", "--command", "true"),
    ],
)
def test_help_and_errors_are_as_they_would_be_in_one_process(
    cg: Cg, home: Path, more: tuple[str, ...]
) -> None:
    """The child's output, its hints and its exit status are the process's own; so are later errors."""
    named = () if "--profile" in more else ("--project-id", "p", "--agent-id", "a")
    argv = ("worker", "loop", "--auth-token-file", str(home / "token"), *named, *more)
    ended, ran = cg_process(cg.home, *argv), cg(*argv)
    assert (ended.stdout, ended.stderr, ended.returncode) == (ran.stdout, ran.stderr, ran.exit_code)


def test_a_reader_that_is_killed_ends_the_process_as_it_ended() -> None:
    """A shell tells a signal as 128 and its number."""
    told = python(
        """
        import os, signal
        from cgworker.cli.parse_in_child import parse_in_child
        print(parse_in_child(lambda: os.kill(os.getpid(), signal.SIGKILL)))
        """
    )
    assert told == "137\n"


UNWRITTEN = [
    ["worker", "loop", "--profile", "p/a", "--command", "true"],
    ["worker", "loop", "--help"],
    ["--version"],
]


@pytest.mark.parametrize("argv", UNWRITTEN)
def test_nobody_reads_the_output_any_more(home: Path, argv: list[str]) -> None:
    """That is no error worth a traceback: it is what `| head` does."""
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as stdout:
        ended = cg_into(stdout, home, *argv)
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full stands for a disk that is full")
@pytest.mark.parametrize("argv", UNWRITTEN)
def test_a_disk_that_takes_no_output_is_told_in_one_line(home: Path, argv: list[str]) -> None:
    """Whatever was to be printed, a result, a help text, or why there is none."""
    with Path("/dev/full").open("wb") as stdout:
        ended = cg_into(stdout, home, *argv)
    assert (ended.returncode, ended.stderr) == (1, "cg: stdout cannot be written: No space left on device\n")


def cg_into(stdout: IO[bytes], home: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [warm_python(), "-m", "cgworker", *argv],
        env={**os.environ, "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_wrong_line_is_the_callers_fault(cg: Cg) -> None:
    """In a process of several duties, such as a test's, no child is needed to say so."""
    ran = cg("turn", "get", "--nope")
    assert (ran.exit_code, ran.error["code"], ran.error["status"]) == (1, "invalid_arguments", 2)
    assert json.loads(ran.stdout)["ok"] is False


@pytest.mark.parametrize("argv", [("worker", "loop", "--help"), ("worker", "once", "--help"), ("--help",)])
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_fault(home: Path, argv: tuple[str, ...], closed: str) -> None:
    """As some daemonisers hand them on."""
    shell = f'exec "$0" -m cgworker {" ".join(argv)} {closed}'
    done = a_process(home, "sh", "-c", shell, sys.executable)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("argv", [("worker", "loop", "--help"), ("worker", "run", "--help")])
def test_a_parent_that_waits_for_no_child_is_none_either(home: Path, argv: tuple[str, ...]) -> None:
    """Whoever ignores SIGCHLD hands that on, and then no child of a child could be waited for."""
    ignoring = (
        "import os, signal, sys;"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    )
    done = a_process(home, sys.executable, "-c", ignoring, sys.executable, "-m", "cgworker", *argv)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_word_that_is_not_utf_8_is_told_of(home: Path) -> None:
    """In ASCII, as far as an envelope can hold it."""
    done = cg_process(home, "worker", "loop", "--profile", os.fsdecode(b"p/caf\xe9"), "--command", "true")
    assert done.returncode == 1
    assert "caf\\udce9" in done.stdout
    assert "Traceback" not in done.stderr


def test_what_reads_the_line_is_never_silent(home: Path) -> None:
    """Whatever it meets: an installation without typer, or being killed."""
    broken = "import sys; sys.modules['typer'] = None; from cgworker.cli.app import main; main()"
    done = a_process(home, sys.executable, "-c", broken, "worker", "loop", "--help")
    assert done.returncode == 1
    assert "typer" in done.stderr
