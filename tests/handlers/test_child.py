"""A child in a session of its own: drained, noticed, and ended with its whole group."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import anyio
import pytest

from cgworker.errors import CommandNotFound
from cgworker.handlers import process
from cgworker.handlers.child import ProcessLimitReached, start_child
from cgworker.printable import printable

ENV = {"PATH": os.environ["PATH"]}


@pytest.fixture(params=["tasks", "in wait", "anyio"], autouse=True)
def _all_ways_to_wait(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How the end of a process is noticed depends on the system, and who reads its output on the caller."""
    if request.param == "in wait":
        reading_in_wait = partial(start_child, reads_in_wait=True)
        monkeypatch.setattr(sys.modules[__name__], "start_child", reading_in_wait)
    if request.param == "anyio":
        monkeypatch.setattr(process, "HAS_PIDFD", False)
    elif not process.HAS_PIDFD:
        pytest.skip("this system has no pidfd")


async def run(*argv: str, lines: list[str] | None = None) -> tuple[int, tuple[str, ...]]:
    written: list[str] = [] if lines is None else lines
    async with start_child(argv, env=ENV, on_line=written.append) as child:
        code = await child.wait()
    return code, child.tail


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until_gone(pid: int) -> None:
    with anyio.fail_after(60):
        while is_alive(pid):  # noqa: ASYNC110  # a stranger's end cannot be awaited
            await anyio.sleep(0.02)


async def test_status_and_output_are_taken() -> None:
    """Both streams are passed on, and the end of stderr is kept for the report."""
    lines: list[str] = []
    code, tail = await run("sh", "-c", "echo out; echo err >&2; exit 3", lines=lines)
    assert (code, sorted(lines), tail) == (3, ["err", "out"], ("err",))


async def test_a_signal_is_a_negative_status() -> None:
    """As everywhere in Python."""
    assert (await run("sh", "-c", "kill -9 $$"))[0] == -signal.SIGKILL


async def test_more_output_than_a_pipe_holds_does_not_block_the_child() -> None:
    """The pipes are drained while it runs, with or without line ends, and the tail stays short."""
    code, tail = await run(
        sys.executable, "-c", "import sys; sys.stderr.write('x' * 3_000_000 + '\\n' * 5000)"
    )
    assert code == 0
    assert len(tail) <= 40


async def test_a_missing_command_is_said_by_name() -> None:
    """And so is one that is a folder, or no program at all."""
    for name in ("/no/such/command", "/tmp"):
        with pytest.raises(CommandNotFound, match=name):
            await run(name)


async def test_a_grandchild_ends_with_its_child(tmp_path: Path) -> None:
    """A wrapper that exits must not leave the real worker running."""
    pid_file = tmp_path / "pid"
    await run("sh", "-c", f"sleep 1000 & echo $! > {pid_file}")
    await until_gone(int(pid_file.read_text()))


async def test_a_grandchild_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """Asked first, then ended."""
    pid_file = tmp_path / "pid"
    script = (
        f"trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > {pid_file}; while :; do sleep 0.1; done' & sleep 0.5"
    )
    await run("sh", "-c", script)
    await until_gone(int(pid_file.read_text()))


async def test_what_a_grandchild_writes_in_its_last_moments_does_not_block_it(tmp_path: Path) -> None:
    """Its pipe is read while it is ended, so that it ends by itself."""
    begun, tidied = tmp_path / "begun", tmp_path / "tidied"
    tidy_up = f"head -c 200000 /dev/zero | tr '\\0' x; echo; touch {tidied}; exit"
    grandchild = f'trap "{tidy_up}" TERM; touch {begun}; while :; do sleep 0.05; done'
    await run("sh", "-c", f"( {grandchild} ) & while [ ! -e {begun} ]; do sleep 0.05; done")
    assert tidied.exists()


async def test_leaving_the_block_ends_a_running_child() -> None:
    """Whatever made us leave."""
    async with start_child(["sleep", "1000"], env=ENV, on_line=print) as child:
        pid = child.pid
    await until_gone(pid)


async def test_a_process_outside_the_group_that_holds_the_pipes_does_not_hold_us(tmp_path: Path) -> None:
    """A daemon that left the session inherits the pipes; we wait a second for it, not for ever."""
    pid_file = tmp_path / "pid"
    daemon = (
        f"import os,time; os.setsid(); open({str(pid_file)!r},'w').write(str(os.getpid())); time.sleep(1000)"
    )
    with anyio.fail_after(60):
        await run(
            "sh", "-c", f'{sys.executable} -c "{daemon}" & while [ ! -s {pid_file} ]; do sleep 0.05; done'
        )
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_children_of_a_killed_worker_end_within_seconds(tmp_path: Path) -> None:
    """SIGKILL leaves no time to clean up: the guard does it."""
    pid_file = tmp_path / "pid"
    program = f"""
import anyio
from cgworker.handlers import process
from cgworker.handlers.child import ProcessLimitReached, start_child
async def main():
    script = "sh -c 'sleep 1000' & echo $! > {pid_file}.tmp; mv {pid_file}.tmp {pid_file}; wait"
    async with start_child(["sh", "-c", script], env={ENV!r}, on_line=print) as child:
        await child.wait()
anyio.run(main)
"""
    worker = subprocess.Popen([sys.executable, "-c", program])
    with subprocess.Popen(["sh", "-c", f"while [ ! -e {pid_file} ]; do sleep 0.05; done"]) as waiting:
        waiting.wait(timeout=60)
    worker.kill()
    worker.wait()
    anyio.run(until_gone, int(pid_file.read_text()))


def test_control_characters_are_spelled_out() -> None:
    """A child's output must not drive our terminal or forge a log line."""
    assert printable("a\x1b[31mred\x07\tb") == "a\\x1b[31mred\\x07\tb"
    assert printable("é \u202e") == "é \\u202e"


@pytest.mark.skipif(not process.HAS_PIDFD, reason="this system has no pidfd")
async def test_a_child_whose_end_could_not_be_noticed_is_not_left_running(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a file to spare for its pidfd it is ended at once, and the turn tried again later."""

    def full(pid: int) -> int:
        (tmp_path / "pid").write_text(str(pid))
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(process, "HAS_PIDFD", True)
    monkeypatch.setattr(os, "pidfd_open", full)
    with pytest.raises(ProcessLimitReached):
        await run("sleep", "1000")
    assert not is_alive(int((tmp_path / "pid").read_text()))
