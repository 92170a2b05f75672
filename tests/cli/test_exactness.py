"""`cg worker` as the reference tells its own: places for files, pages of a context, a lease that ended."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from cgworker.testing import local_kernel
from tests.cli.conftest import Cg, Kernel
from tests.cli.test_worker import agent_of, desk, start, state_of, until
from tests.handlers.test_child import is_alive

__all__ = ["desk"]

COPY = ("sh", "-c", 'cp "$CG_CONTEXT_FILE" "$CG_FINAL_FILE"')
THREE_RECORDS = ("sh", "-c", 'printf "1\\n2\\n3\\n" > "$CG_PROGRESS_FILE"; echo "{}" > "$CG_SUSPEND_FILE"')


def test_the_folder_of_a_file_is_made(cg: Cg, kernel: Kernel, desk: str, tmp_path: Path) -> None:
    """A place in a folder that is not there yet is as good as any, and the turn is worked."""
    turn_id = kernel.dispatch(agent_of(desk))
    context, final = tmp_path / "a" / "b" / "context.json", tmp_path / "c" / "final.json"
    ran = cg(
        "worker", "once", "--profile", desk, "--context-out-file", str(context),
        "--final-in-file", str(final), "--command", *COPY,
    )  # fmt: skip
    assert (ran.exit_code, ran.result["context_file"]) == (0, str(context))
    assert state_of(cg, kernel, desk, turn_id) == ("closed", "succeeded")
    assert context.exists()
    assert final.exists()


def test_a_folder_that_cannot_be_made_is_refused_before_the_claim(
    cg: Cg, kernel: Kernel, desk: str, tmp_path: Path
) -> None:
    """With the place in the message; the turn is not touched."""
    turn_id = kernel.dispatch(agent_of(desk))
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "context.json"
    ran = cg("worker", "once", "--profile", desk, "--context-out-file", str(place), "--command", "true")
    assert ran.exit_code == 1
    assert str(place.parent) in ran.error["message"]
    assert state_of(cg, kernel, desk, turn_id) == ("queued", None)


def test_a_turn_that_could_not_be_begun_says_why(
    cg: Cg, kernel: Kernel, desk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is handed back, and the result tells what was in the way."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    kernel.dispatch(agent_of(desk))
    monkeypatch.setattr("cgworker.handlers.folder.write_private", refuse)
    ran = cg("worker", "once", "--profile", desk, "--command", "true")
    assert (ran.result["suspended"], ran.result["reason"]) == (True, "worker_retry")
    assert "No space left on device" in ran.result["note"]


@pytest.mark.parametrize(
    ("flags", "seqs"),
    [
        ((), [1, 2, 3, 4]),
        (("--context-limit", "2"), [1, 2]),
        (("--context-after-turn-seq", "1"), [2, 3, 4]),
        (("--context-after-turn-seq", "1", "--context-limit", "2"), [2, 3]),
    ],
)
def test_a_page_of_the_context_is_given_where_one_is_asked_for(
    cg: Cg, kernel: Kernel, desk: str, flags: tuple[str, ...], seqs: list[int]
) -> None:
    """No flag gives all records."""
    turn_id = kernel.dispatch(agent_of(desk))
    cg("worker", "once", "--profile", desk, "--command", *THREE_RECORDS)
    project = ("--project-id", kernel.project)
    cg(
        "turn", "resume", "--profile", desk, *project, "--turn-id", turn_id,
        "--requested-by", agent_of(desk),
    )  # fmt: skip
    ran = cg("worker", "once", "--profile", desk, *flags, "--command", *COPY)
    items = ran.result["turn"]["final_payload"]["semantic_items"]
    assert [item["record"]["turn_seq"] for item in items] == seqs


def test_the_log_line_of_a_failed_turn_says_why(
    cg: Cg, kernel: Kernel, desk: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The word of its report, and the command's exit status."""
    caplog.set_level(logging.INFO, "cgworker")
    kernel.dispatch(agent_of(desk))
    cg("worker", "once", "--profile", desk, "--command", "sh", "-c", "exit 3")
    [line] = [record.getMessage() for record in caplog.records if "TurnSettled" in record.getMessage()]
    assert "outcome=failed" in line
    assert line.endswith("failure=worker_command_failed exit_status=3")


@pytest.fixture(scope="module")
def hasty() -> Iterator[Kernel]:
    """A kernel whose leases are short."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(local_kernel(reaper_seconds=0, lease_seconds=3)) as local,
    ):
        yield Kernel(portal, local)


def test_a_child_that_the_guard_ended_lost_its_lease(cg: Cg, hasty: Kernel, tmp_path: Path) -> None:
    """cg stood still until the lease was over: exit status 1, and the reason."""
    profile = hasty.profile(cg, "stalled")
    hasty.dispatch("stalled")
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 60"
    flags = ("--profile", profile, "--project-id", hasty.project, "--agent-id", "stalled")
    running = start(cg, "worker", "claim", "run", *flags, "--", "sh", "-c", script, python=sys.executable)
    until(pid_file.exists)
    running.send_signal(signal.SIGSTOP)
    until(lambda: not is_alive(int(pid_file.read_text())) or _is_zombie(int(pid_file.read_text())))
    running.send_signal(signal.SIGCONT)
    out, err = running.communicate(timeout=60)
    result = json.loads(out)["result"]
    assert (running.returncode, result["lease_lost"]) == (1, True), err
    assert "ran out" in result["lease_error"]


def _is_zombie(pid: int) -> bool:
    """Ended, but its parent stands still and has not noticed."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and ") Z " in stat.read_text()


def test_a_page_that_the_kernel_cut_is_told(
    cg: Cg, kernel: Kernel, desk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr, with the option that reads on; a page that is whole has no such line."""
    monkeypatch.setattr("cgworker.kernel.store.records.MAX_PAGE_BYTES", 1)
    turn_id = kernel.dispatch(agent_of(desk))
    assert cg("worker", "once", "--profile", desk, "--command", *THREE_RECORDS).exit_code == 0
    context = ("turn", "context", "--profile", desk, "--project-id", kernel.project, "--turn-id", turn_id)
    cut = cg(*context)
    assert len(cut.result["semantic_items"]) == 1
    assert (
        "cut the page after 1 of at most 100; read on with cg turn context --after-turn-seq 1" in cut.stderr
    )
    assert "cut" not in cg(*context, "--limit", "1").stderr
