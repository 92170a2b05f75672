"""`cg worker once|loop|claim run`: the library's worker, told as the reference tells its own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cgworker.private import replace_private
from tests.cli.conftest import Cg, Kernel
from tests.cli.test_servers import free_port
from tests.handlers.test_child import is_alive
from tests.systemd import Systemd
from tests.warm import warm_python


@pytest.fixture
def desk(cg: Cg, kernel: Kernel) -> str:
    """The profile of a new agent."""
    return kernel.profile(cg, f"desk-{secrets.token_hex(3)}")


def agent_of(profile: str) -> str:
    return profile.split("/")[1]


def state_of(cg: Cg, kernel: Kernel, profile: str, turn_id: str) -> tuple[str, str | None]:
    shown = cg(
        "turn", "get", "--profile", profile, "--project-id", kernel.project, "--turn-id", turn_id
    ).result
    return shown["state"], shown["outcome"]


def start(cg: Cg, *argv: str, python: str | None = None) -> subprocess.Popen[bytes]:
    return cg.start(python or warm_python(), *argv)


def until(seen: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ---------------------------------------------------------------- those who look after workers


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:  # nobody listens yet, or it says that it is not
        return False


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there is no systemd there")
def test_a_loop_says_that_it_is_ready_to_who_asks_and_to_who_started_it(
    cg: Cg, desk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--health-port answers, systemd is told; and told again when it drains."""
    port = free_port()
    systemd = Systemd(str(cg.home / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.address)
    loop = start(cg, "worker", "loop", "--profile", desk, "--health-port", str(port), "--command", "true")
    try:
        assert systemd.hear() == "READY=1"
        until(lambda: is_ready(port))
    finally:
        loop.send_signal(signal.SIGTERM)
        loop.communicate(timeout=60)
    assert loop.returncode == 0
    assert systemd.hear() == "STOPPING=1"
    assert not is_ready(port)
    systemd.close()


IMPATIENT = """
import functools
from cgworker.cli.app import main
from cgworker.cli import command_flags as flags
flags.WorkerOptions = functools.partial(flags.WorkerOptions, refused_seconds=1, wait_seconds=1)
main()
"""


def test_a_loop_whose_credential_stays_refused_ends_with_1_and_says_so(cg: Cg, desk: str) -> None:
    """A process that can do nothing any more does not look alive; who started it can tell."""
    port = free_port()
    flags = ["worker", "loop", "--profile", desk, "--health-port", str(port), "--command", "true"]
    program = [sys.executable, "-c", IMPATIENT, *flags]
    env = {**os.environ, "HOME": str(cg.home)}
    with subprocess.Popen(
        program, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as loop:
        try:
            until(lambda: is_ready(port))
            replace_private(cg.home / f"{agent_of(desk)}.token", "cgac_cred_none.of-anybody\n")
            said, log = loop.communicate(timeout=40)
        finally:
            loop.kill()
    assert loop.returncode == 1
    told = json.loads(said)
    assert (told["error"]["code"], told["error"]["status"]) == ("unauthorized", 401)
    assert f"refused the credential of {desk} for 1 s" in told["error"]["message"]
    assert b"ClaimingFailed" in log


def test_a_health_port_that_is_taken_is_said_before_anything_is_claimed(
    cg: Cg, kernel: Kernel, desk: str
) -> None:
    """Nobody wants a worker that cannot be looked at where it should be."""
    turn_id = kernel.dispatch(agent_of(desk))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ran = cg("worker", "loop", "--profile", desk, "--health-port", port, "--command", "true")
    assert ran.exit_code == 1
    assert state_of(cg, kernel, desk, turn_id)[0] == "queued"


# ---------------------------------------------------------------- the command and its surroundings


def test_the_command_takes_the_rest_of_the_line(cg: Cg, kernel: Kernel, desk: str) -> None:
    """Its own flags stay its own, a leading -- is dropped, and no shell is in between."""
    kernel.dispatch(agent_of(desk))
    program = "import json, os, sys; json.dump(sys.argv[1:], open(os.environ['CG_FINAL_FILE'], 'w'))"
    words = ("--json", "--profile", "x y", "$HOME", "--")
    ran = cg("worker", "once", "--profile", desk, "--command", "--", sys.executable, "-c", program, *words)
    assert ran.result["turn"]["final_payload"] == list(words)


def test_the_childs_files_are_where_they_are_wanted(
    cg: Cg, kernel: Kernel, desk: str, tmp_path: Path
) -> None:
    """A work folder is kept; single files may be elsewhere; all are for their owner alone (difference 25)."""
    kernel.dispatch(agent_of(desk))
    work, final = tmp_path / "work", tmp_path / "elsewhere.json"
    ran = cg(
        "worker", "once", "--profile", desk, "--work-dir", str(work), "--final-in-file", str(final),
        "--command", "sh", "-c", 'cp "$CG_CONTEXT_FILE" "$CG_FINAL_FILE"',
    )  # fmt: skip
    assert ran.result["context_file"] == str(work / "context.json")
    assert json.loads((work / "context.json").read_text()) == ran.result["turn"]["final_payload"]
    assert (work.stat().st_mode & 0o777, (work / "context.json").stat().st_mode & 0o777) == (0o700, 0o600)
    assert final.exists()


def test_a_context_can_begin_after_a_record(cg: Cg, kernel: Kernel, desk: str) -> None:
    """--context-after-turn-seq leaves the records up to it out."""
    kernel.dispatch(agent_of(desk))
    ran = cg(
        "worker", "once", "--profile", desk, "--context-after-turn-seq", "1",
        "--command", "sh", "-c", 'cp "$CG_CONTEXT_FILE" "$CG_FINAL_FILE"',
    )  # fmt: skip
    assert ran.result["turn"]["final_payload"]["semantic_items"] == []


def test_variables_are_given_to_the_child_by_name(
    cg: Cg, kernel: Kernel, desk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--clean-env starts from next to nothing; --env adds a variable, with our value or its own."""
    kernel.dispatch(agent_of(desk))
    monkeypatch.setenv("MINE", "1")
    monkeypatch.setenv("OURS", "2")
    program = "import json, os; json.dump(dict(os.environ), open(os.environ['CG_FINAL_FILE'], 'w'))"
    ran = cg(
        "worker", "once", "--profile", desk, "--clean-env",
        "--env", "OURS", "--env", "NEW=a=b", "--env", "UNSET",
        "--command", sys.executable, "-S", "-c", program,
    )  # fmt: skip
    seen = ran.result["turn"]["final_payload"]
    assert (seen["OURS"], seen["NEW"], "MINE" in seen, "UNSET" in seen) == ("2", "a=b", False, False)


def test_a_missing_command_is_refused_before_anything_is_claimed(cg: Cg, kernel: Kernel, desk: str) -> None:
    """Difference 17: the turn is not touched."""
    turn_id = kernel.dispatch(agent_of(desk))
    claiming = ("--project-id", kernel.project, "--agent-id", agent_of(desk), "--", "/no/such")
    for argv in (
        ("worker", "once", "--profile", desk, "--command", "/no/such"),
        ("worker", "loop", "--profile", desk, "--command", "/no/such"),
        ("worker", "claim", "run", "--profile", desk, *claiming),
    ):
        ran = cg(*argv)
        assert (ran.exit_code, ran.error["code"], ran.error["status"]) == (1, "file_not_found", 404)
    assert state_of(cg, kernel, desk, turn_id) == ("queued", None)


def test_a_place_for_the_claim_that_cannot_be_written_is_refused_before_the_claim(
    cg: Cg, kernel: Kernel, desk: str, tmp_path: Path
) -> None:
    """A claim that nobody can see would block its agent."""
    turn_id = kernel.dispatch(agent_of(desk))
    (tmp_path / "file").write_text("")
    ran = cg(
        "worker", "claim", "next", "--profile", desk, "--project-id", kernel.project,
        "--agent-id", agent_of(desk), "--claim-out-file", str(tmp_path / "file" / "claim.json"),
    )  # fmt: skip
    assert ran.exit_code == 1
    assert state_of(cg, kernel, desk, turn_id) == ("queued", None)


# ---------------------------------------------------------------- loops


def test_a_loop_goes_on_after_a_failed_turn(cg: Cg, kernel: Kernel, desk: str) -> None:
    """Its result tells of the last one; --max-iterations ends it where there is no more work."""
    for number in range(2):
        kernel.dispatch(agent_of(desk), number)
    ran = cg("worker", "loop", "--profile", desk, "--max-iterations", "9", "--command", "sh", "-c", "exit 4")
    assert (ran.exit_code, ran.result) == (
        0,
        {"iterations": 3, "claimed_count": 2, "last": {"claimed": False}},
    )


def test_a_loop_may_retry_a_command_that_fails(cg: Cg, kernel: Kernel, desk: str) -> None:
    """By `--retries`: the turn waits for its next try, which the kernel wakes soon, and stays open."""
    turn_id = kernel.dispatch(agent_of(desk), 1)
    flags = ("--retries", "3", "--max-iterations", "1", "--command", "sh", "-c", "exit 4")
    assert cg("worker", "loop", "--profile", desk, *flags).exit_code == 0
    why = cg("worker", "why", turn_id, "--profile", desk).result
    assert why["state"] in ("suspended", "queued")
    assert "retry 1 of 3: worker_command_failed" in json.dumps(why["story"])


def test_a_command_that_was_retried_often_enough_has_failed(cg: Cg, kernel: Kernel, desk: str) -> None:
    """With its last report."""
    turn_id = kernel.dispatch(agent_of(desk), 1)
    flags = ("--retries", "0", "--max-iterations", "1", "--command", "sh", "-c", "exit 4")
    cg("worker", "loop", "--profile", desk, *flags)
    turn = cg("turn", "get", "--project-id", kernel.project, "--turn-id", turn_id, "--profile", desk).result
    assert turn["final_payload"] == {
        "error": "retries_exhausted",
        "retries": 0,
        "last": {"error": "worker_command_failed", "child_exit_code": 4},
    }


def test_a_loop_may_end_at_its_first_failure(cg: Cg, kernel: Kernel, desk: str) -> None:
    """--exit-on-failure: exit status 1, and the other turn is still there."""
    kernel.dispatch(agent_of(desk))
    other = kernel.dispatch(agent_of(desk))
    for limit in ((), ("--max-iterations", "9")):
        kernel.dispatch(agent_of(desk))
        flags = ("--profile", desk, "--exit-on-failure", "--concurrency", "1", *limit)
        ran = cg("worker", "loop", *flags, "--command", "sh", "-c", "exit 4")
        assert (ran.exit_code, ran.result["claimed_count"]) == (1, 1)
        assert ran.result["last"]["failure_payload"]["child_exit_code"] == 4
    assert state_of(cg, kernel, desk, other) == ("closed", "failed")


@pytest.mark.parametrize("verb", ["once", "loop"])
def test_sigterm_hands_the_turn_back(cg: Cg, kernel: Kernel, desk: str, tmp_path: Path, verb: str) -> None:
    """Exit status 0, the turn queued for any live worker, and no child left (difference 21)."""
    turn_id = kernel.dispatch(agent_of(desk))
    pid_file = tmp_path / "pid"
    command = ("sh", "-c", f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 60")
    process = start(cg, "worker", verb, "--profile", desk, "--grace-seconds", "0.1", "--command", *command)
    until(pid_file.exists)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert state_of(cg, kernel, desk, turn_id) == ("queued", None)
    result = json.loads(out)["result"]
    worked = result if verb == "once" else result["last"]
    assert (worked["suspended"], worked["reason"]) == (True, "worker_shutdown")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


# ---------------------------------------------------------------- claim run


def claim_run(cg: Cg, kernel: Kernel, desk: str, *command: str) -> Any:
    flags = ("--profile", desk, "--project-id", kernel.project, "--agent-id", agent_of(desk))
    return cg("worker", "claim", "run", *flags, "--", *command)


def test_a_child_with_the_claim_settles_the_turn_itself(cg: Cg, kernel: Kernel, desk: str) -> None:
    """It may go on after that: its lease is over, but not lost."""
    turn_id = kernel.dispatch(agent_of(desk))
    finish = f"{sys.executable} -m cgworker worker claim finish --profile {desk} --claim-file $CG_CLAIM_FILE"
    flags = ("--renew-interval-seconds", "0.1")
    ran = cg(
        "worker", "claim", "run", "--profile", desk,
        "--project-id", kernel.project, "--agent-id", agent_of(desk),
        *flags, "--", "sh", "-c", f"{finish} --outcome succeeded && sleep 0.5 && exit 7",
    )  # fmt: skip
    assert (ran.exit_code, ran.result["lease_lost"]) == (7, False)
    assert state_of(cg, kernel, desk, turn_id) == ("closed", "succeeded")


def test_a_child_that_just_ends_leaves_the_turn_to_its_lease(cg: Cg, kernel: Kernel, desk: str) -> None:
    """Its claim can still be shown: that is what the claim file is for. A signal N is exit status 256 - N."""
    turn_id = kernel.dispatch(agent_of(desk))
    ran = claim_run(cg, kernel, desk, "sh", "-c", "kill -9 $$")
    assert (ran.exit_code, ran.result["child_exit_code"]) == (247, -9)
    assert state_of(cg, kernel, desk, turn_id) == ("running", None)
    assert ran.result["claim"]["token"] not in ran.stderr


def test_a_child_whose_lease_is_lost_is_ended(cg: Cg, kernel: Kernel, desk: str, tmp_path: Path) -> None:
    """Another may hold the turn: exit status 1, and the reason told."""
    turn_id = kernel.dispatch(agent_of(desk))
    flag = tmp_path / "started"
    flags = ("--profile", desk, "--project-id", kernel.project, "--agent-id", agent_of(desk))
    process = start(
        cg, "worker", "claim", "run", *flags, "--renew-interval-seconds", "0.1",
        "--", "sh", "-c", f"echo > {flag}; exec sleep 60",
    )  # fmt: skip
    until(flag.exists)
    kernel.end_lease(turn_id)
    out, err = process.communicate(timeout=60)
    result = json.loads(out)["result"]
    assert (process.returncode, result["lease_lost"]) == (1, True), err
    assert "claim expired" in result["lease_error"]


def test_a_killed_claim_run_leaves_neither_its_child_nor_its_claim_behind(
    cg: Cg, kernel: Kernel, desk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim file holds a secret; SIGKILL leaves no time to remove it, but the guard does."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    kernel.dispatch(agent_of(desk))
    flags = ("--profile", desk, "--project-id", kernel.project, "--agent-id", agent_of(desk))
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 60"
    running = start(cg, "worker", "claim", "run", *flags, "--", "sh", "-c", script)
    until(pid_file.exists)
    assert list(tmp_path.glob("cg_worker_claim_run_*/claim.json"))
    running.kill()
    running.communicate()
    until(lambda: not list(tmp_path.glob("cg_worker_claim_run_*")))
    assert not is_alive(int(pid_file.read_text()))


# `cg`, if what was asked to end had an hour to do so.
PATIENT = """
import cgworker.cli.commands.worker.claim.run as run
from cgworker.__main__ import main
run._END_SECONDS = 3600
main()
"""


def test_a_second_signal_ends_a_child_that_ignores_the_first(
    cg: Cg, kernel: Kernel, desk: str, tmp_path: Path
) -> None:
    """At once, and cg exits as the child did."""
    kernel.dispatch(agent_of(desk))
    started = tmp_path / "started"
    script = f"trap '' TERM; touch {started}; while :; do sleep 0.05; done"
    flags = ("--profile", desk, "--project-id", kernel.project, "--agent-id", agent_of(desk))
    command = ("worker", "claim", "run", *flags, "--", "sh", "-c", script)
    running = cg.start(warm_python(), *command, code=PATIENT)
    until(started.exists)
    running.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        running.wait(timeout=0.5)
    running.send_signal(signal.SIGTERM)
    out, _ = running.communicate(timeout=60)
    assert (running.returncode, json.loads(out)["result"]["child_exit_code"]) == (256 - 9, -9)


def test_nothing_to_claim_is_no_failure(cg: Cg, kernel: Kernel, desk: str) -> None:
    """Of any of them."""
    for ran in (
        cg("worker", "once", "--profile", desk, "--command", "true"),
        claim_run(cg, kernel, desk, "true"),
    ):
        assert (ran.exit_code, ran.result) == (0, {"claimed": False})


# ---------------------------------------------------------------- trouble on the way


def test_a_turn_whose_context_cannot_be_read_is_put_aside(cg: Cg, kernel: Kernel, desk: str) -> None:
    """Not left to its lease; `claim next` tells so and exits 0, a command that was not run exits 1."""
    flags = ("--profile", desk, "--project-id", kernel.project, "--agent-id", agent_of(desk))
    for verb, command, status in (("next", (), 0), ("run", ("--", "true"), 1)):
        turn_id = kernel.dispatch(agent_of(desk))
        kernel.local.faults.answer("context", status=403)
        ran = cg("worker", "claim", verb, *flags, *command)
        assert (ran.exit_code, ran.result["context_fetch_failed"]) == (status, True)
        assert ran.result["suspended_after_failure"] is True
        assert state_of(cg, kernel, desk, turn_id) == ("suspended", None)


def test_a_claim_that_can_neither_be_read_nor_put_aside_tells_both(cg: Cg, kernel: Kernel, desk: str) -> None:
    """Its lease ends by itself then."""
    kernel.dispatch(agent_of(desk))
    kernel.local.faults.answer("context", status=403)
    kernel.local.faults.answer("suspend", status=500)
    flags = ("--profile", desk, "--project-id", kernel.project, "--agent-id", agent_of(desk))
    ran = cg("worker", "claim", "next", *flags)
    assert ran.result["suspended_after_failure"] is False
    assert ran.result["suspend_error"]


def test_a_lost_lease_is_told_and_nothing_is_sent(cg: Cg, kernel: Kernel, desk: str, tmp_path: Path) -> None:
    """Exit status 1, with the reason."""
    turn_id = kernel.dispatch(agent_of(desk))
    flag = tmp_path / "started"
    process = start(
        cg, "worker", "once", "--profile", desk, "--renew-interval-seconds", "0.1",
        "--command", "sh", "-c", f"echo > {flag}; exec sleep 60",
    )  # fmt: skip
    until(flag.exists)
    kernel.end_lease(turn_id)
    out, err = process.communicate(timeout=60)
    result = json.loads(out)["result"]
    assert (process.returncode, result["lease_lost"]) == (1, True), err
    assert "claim expired" in result["lease_error"]


def test_a_stored_result_is_delivered_without_running_the_command(
    cg: Cg, kernel: Kernel, desk: str, tmp_path: Path
) -> None:
    """A worker that died before its result was taken left it on the disk (difference 18)."""
    turn_id = kernel.dispatch(agent_of(desk))
    count = tmp_path / "count"
    command = ("--command", "sh", "-c", f"echo x >> {count}; echo 7 > $CG_FINAL_FILE")
    kernel.local.faults.answer("finish", status=503, times=1000)
    seen_before = kernel.local.faults.seen["finish"]
    process = start(cg, "worker", "once", "--profile", desk, *command)
    # The result is written beside the first request, and is on the disk before the second one.
    until(lambda: kernel.local.faults.seen["finish"] > seen_before + 1)
    process.kill()
    process.communicate()
    kernel.local.faults.clear()
    kernel.end_lease(turn_id)
    ran = cg("worker", "once", "--profile", desk, *command)
    assert (ran.result["redelivered"], ran.result["turn"]["final_payload"]) == (True, 7)
    assert count.read_text() == "x\n"


SIGNALLED_AT_ONCE = """
import os, signal, sys
from cgworker.cli import app, root as words
worker, root = os.getpid(), words.root_command
def signalled():
    for process in {worker, os.getpid()}:  # as a terminal does, which knows nothing of who reads the line
        os.kill(process, signal.SIGTERM)
    return root()
words.root_command = signalled
sys.exit(app.run(sys.argv[1:], is_process=True))
"""


@pytest.mark.parametrize(
    ("words", "tail"),
    [
        (("worker", "once"), ("--command", "true")),
        (("worker", "loop"), ("--command", "true")),
        (("worker", "claim", "run"), ("--", "true")),
    ],
)
def test_a_worker_that_is_ended_in_its_first_moments_ends_in_order(
    words: tuple[str, ...], tail: tuple[str, ...], tmp_path: Path
) -> None:
    """Nothing is claimed, the envelope is printed, and the status is 0."""
    token = tmp_path / "token"
    token.write_text("cgac_cred_x.secret-of-nobody\n")
    token.chmod(0o600)
    token.chmod(0o600)
    flags = ("--base-url", "http://127.0.0.1:9", "--project-id", "p", "--agent-id", "a")
    ended = subprocess.run(
        [sys.executable, "-c", SIGNALLED_AT_ONCE, *words, *flags, "--auth-token-file", str(token), *tail],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr.count("Traceback")) == (0, 0), ended.stderr
    result = json.loads(ended.stdout)["result"]
    assert not result.get("last", result)["claimed"]
