"""What a person sees of workers that run: one line at the bottom, and nothing of it afterwards."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import secrets
import signal
import struct
import subprocess
import termios
import time
from contextlib import suppress
from typing import Any

import pytest

from cgworker import TurnRef
from cgworker.cli.status_line import Counts
from cgworker.events import (
    ClaimingFailed,
    ClaimingRecovered,
    LeaseRenewed,
    RenewalFailed,
    TurnClaimed,
    TurnGivenUp,
    TurnResumed,
    TurnSettled,
)
from tests.cli.conftest import Cg, Kernel
from tests.turns import AGENT
from tests.warm import warm_python

SHELL = 'echo "to be seen" >&2; sleep 0.7; echo "{}" > $CG_FINAL_FILE'


class Terminal:
    """`cg` on a terminal of so many columns, and what it wrote there."""

    def __init__(self, cg: Cg, *argv: str, columns: int = 100) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.set_blocking(self._ours, False)
        self._written = b""
        self._process = subprocess.Popen(
            [warm_python(), "-m", "cgworker", *argv],
            cwd=cg.home,
            env={**os.environ, "HOME": str(cg.home), "TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        os.close(theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(30)
        os.close(self._ours)

    def until(self, text: str) -> None:
        deadline = time.monotonic() + 30
        while text not in self._look():
            assert time.monotonic() < deadline, self._look()
            time.sleep(0.02)  # a terminal in another process has no event to wait for

    def end(self) -> str:
        """Everything it wrote, once it has ended as it was told to."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> str:
        """Everything it wrote, once it has ended by itself."""
        assert self._process.wait(30) == 0
        return self._look()

    def _look(self) -> str:
        with suppress(OSError):  # nothing new, or its other side is closed
            while chunk := os.read(self._ours, 65536):
                self._written += chunk
        return self._written.decode(errors="replace")


def shown(written: str) -> list[str]:
    """The lines that are left on a terminal, by the few controls that are used here."""
    lines, row, column = [""], 0, 0
    for control, letter in re.findall(r"\x1b\[([?\d;]*[A-Za-z])|([^\x1b])", written):
        if control == "2K":
            lines[row] = ""
        elif control == "1A":
            row -= 1
        elif letter == "\r":
            column = 0
        elif letter == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif letter:
            lines[row] = lines[row][:column].ljust(column) + letter + lines[row][column + 1 :]
            column += 1
    return lines


@pytest.fixture
def desk(cg: Cg, kernel: Kernel) -> str:
    return kernel.profile(cg, f"live-{secrets.token_hex(3)}")


def loop(cg: Cg, desk: str, *flags: str, columns: int = 100) -> Terminal:
    command = ("--command", "sh", "-c", SHELL)
    return Terminal(cg, "worker", "loop", "--profile", desk, *flags, *command, columns=columns)


def test_a_person_sees_what_a_loop_is_at_below_what_it_logs(cg: Cg, kernel: Kernel, desk: str) -> None:
    """And at the end the log alone is left, with the cursor where it was."""
    with loop(cg, desk) as terminal:
        terminal.until("0 running · 0 done · 0 failed · 0 waiting")
        kernel.dispatch(desk.split("/")[1])
        terminal.until("1 running · 0 done")
        terminal.until("renewal in ")
        terminal.until("0 running · 1 done")
        written = terminal.end()
    left = shown(written)
    assert [line for line in left if "running ·" in line] == []
    assert "to be seen" in left
    for event in ("WorkerStarted", "TurnClaimed", "TurnSettled", "WorkerStopped"):
        assert len([line for line in left if f"INFO {event} " in line]) == 1
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


def test_a_narrow_terminal_has_it_on_one_line(cg: Cg, desk: str) -> None:
    """Cut, so that it can be taken away again; log lines are whole, for whoever copies one."""
    with loop(cg, desk, columns=20) as terminal:
        terminal.until("0 running · 0 done …")
        left = shown(terminal.end())
    assert [line for line in left if "running ·" in line] == []
    [started] = [line for line in left if "WorkerStarted" in line]
    assert "max_attempts=" in started


def test_with_json_there_is_no_such_line(cg: Cg, kernel: Kernel, desk: str) -> None:
    """Its output is for a program."""
    kernel.dispatch(desk.split("/")[1])
    with loop(cg, desk, "--json") as terminal:
        terminal.until("TurnSettled")
        assert " running" not in terminal.end()


def test_a_program_of_workers_has_the_line_too(cg: Cg, desk: str) -> None:
    """One for all of them."""
    (cg.home / "my_desk.py").write_text(
        "from cgworker import Worker\n"
        f"desk = Worker.from_profile({desk!r})\n"
        "@desk.turn()\n"
        "async def handle(turn): ...\n"
    )
    with Terminal(cg, "worker", "run", "my_desk:desk") as terminal:
        terminal.until("0 running · 0 done")
        left = shown(terminal.end())
    assert [line for line in left if "running ·" in line] == []


def test_one_turn_that_takes_long_is_named_while_it_runs(cg: Cg, kernel: Kernel, desk: str) -> None:
    """`worker once` is silent for two seconds, and leaves nothing of the line."""
    turn = kernel.dispatch(desk.split("/")[1])
    go_on = cg.home / "go-on"
    wait = f'until [ -e "{go_on}" ]; do sleep 0.1; done; echo "{{}}" > $CG_FINAL_FILE'
    with Terminal(cg, "worker", "once", "--profile", desk, "--command", "sh", "-c", wait) as terminal:
        terminal.until(f"{turn} is running")
        go_on.touch()
        assert [line for line in shown(terminal.wait()) if "is running" in line] == []


# ---------------------------------------------------------------- what it counts


@pytest.fixture
def tally() -> Counts:
    return Counts()


def facts(turn_id: str) -> dict[str, Any]:
    return {"turn": TurnRef(project_id="p", turn_id=turn_id), "agent": AGENT, "attempt": 1}


def test_the_next_renewal_is_that_of_the_turn_that_is_first(tally: Counts) -> None:
    """Of all that run."""
    tally.note(TurnClaimed(**facts("T-1"), kind="k", renewal_seconds=30))
    tally.note(TurnClaimed(**facts("T-2"), kind="k", renewal_seconds=10))
    assert tally.text() == "2 running · 0 done · 0 failed · 0 waiting · renewal in 10 s"
    tally.note(LeaseRenewed(**facts("T-2"), seconds_left=60, renewal_seconds=20))
    assert tally.text().endswith("renewal in 20 s")
    tally.note(TurnGivenUp(**facts("T-2"), outcome=None, reason="the lease was lost"))
    assert tally.text() == "1 running · 0 done · 0 failed · 0 waiting · renewal in 30 s"


def test_a_suspended_turn_waits_until_it_is_queued_again(tally: Counts) -> None:
    """A stopped one is done."""
    for turn_id, outcome in (
        ("T-1", "suspended"),
        ("T-2", "failed"),
        ("T-3", "stopped"),
        ("T-4", "succeeded"),
    ):
        tally.note(TurnClaimed(**facts(turn_id), kind="k"))
        tally.note(TurnSettled(**facts(turn_id), outcome=outcome, seconds=1))
    assert tally.text() == "0 running · 2 done · 1 failed · 1 waiting"
    tally.note(TurnResumed(turn=facts("T-1")["turn"], reason="await_children"))
    assert tally.text() == "0 running · 2 done · 1 failed · 0 waiting"


def test_a_kernel_that_does_not_answer_is_told_from_one_without_work(tally: Counts) -> None:
    """In the line, until it answers again; its words are those of others."""
    idle = tally.text()
    tally.note(ClaimingFailed(agent=AGENT, error="[Errno 111] Connection refused\x1b[2J", retry_seconds=1))
    assert tally.text() == f"{idle} · trouble with the kernel: [Errno 111] Connection refused\\x1b[2J"
    tally.note(ClaimingRecovered(agent=AGENT))
    assert tally.text() == idle
    tally.note(TurnClaimed(**facts("T-1"), kind="k", renewal_seconds=30))
    tally.note(RenewalFailed(**facts("T-1"), error="timed out", seconds_left=9))
    assert tally.text().endswith("trouble with the kernel: timed out")
    tally.note(LeaseRenewed(**facts("T-1"), seconds_left=60, renewal_seconds=20))
    assert tally.text().endswith("renewal in 20 s")
    tally.note(RenewalFailed(**facts("T-1"), error="timed out", seconds_left=9))
    tally.note(TurnGivenUp(**facts("T-1"), outcome=None, reason="the lease was lost"))
    assert tally.text() == idle


def test_a_loop_whose_kernel_is_away_says_so_and_no_false_word_at_its_end(cg: Cg) -> None:
    """Whether a turn waits there, it does not know."""
    connection = ("--base-url", "http://127.0.0.1:9", "--auth-token", "t")
    agent = ("--project-id", "p", "--agent-id", "a")
    with Terminal(cg, "worker", "loop", *connection, *agent, "--command", "true") as terminal:
        terminal.until("trouble with the kernel: ")
        assert "no turn" not in terminal.end()
