"""`cg worker check` and `cg worker replay`: a program under test, without a claim."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest

from cgworker.cli.views import picture
from cgworker.cli.worker_results import CheckCard, Replay
from cgworker.testing.checking import Check
from tests.cli.conftest import Cg, Kernel

ANSWER = ("sh", "-c", 'cp "$CG_INPUT_FILE" "$CG_FINAL_FILE"')


@pytest.fixture
def desk(cg: Cg, kernel: Kernel) -> str:
    return kernel.profile(cg, f"desk-{secrets.token_hex(3)}")


def answered(cg: Cg, kernel: Kernel, desk: str, *command: str, input: Any = "hi") -> str:
    turn_id = kernel.dispatch(desk.split("/")[1], input)
    cg("worker", "once", "--profile", desk, "--command", *command)
    return turn_id


def drawn(result: Any) -> str:
    from rich.console import Console

    console = Console(width=100)
    with console.capture() as capture:
        console.print(picture(result))
    return capture.get()


# ---------------------------------------------------------------- check


def test_a_command_that_keeps_the_contract_passes(cg: Cg) -> None:
    """Exit status 0, without any kernel; what was not shown is counted, not failed."""
    suspend = 'if [ "$(cat $CG_INPUT_FILE)" = 1 ]; then echo "{}" > $CG_SUSPEND_FILE; exit; fi; '
    script = suspend + 'echo 1 > "$CG_FINAL_FILE"'
    ran = cg("worker", "check", "--turns-json", '{"suspend": 1}', "--command", "sh", "-c", script)
    assert (ran.exit_code, ran.result["failed_count"]) == (0, 0)
    verdicts = {each["name"]: each["verdict"] for each in ran.result["checks"]}
    assert (verdicts["suspend"], verdicts["later"]) == ("passed", "not shown")
    assert ran.result["not_shown_count"] == sum(
        each["verdict"] == "not shown" for each in ran.result["checks"]
    )


def test_a_command_that_breaks_it_fails(cg: Cg, tmp_path: Path) -> None:
    """Exit status 1; the inputs may come from a file."""
    turns = tmp_path / "turns.json"
    turns.write_text('{"answer": 1}')
    ran = cg("worker", "check", "--turns-file", str(turns), "--command", "true")
    assert (ran.exit_code, ran.result["checks"][0]["verdict"]) == (1, "failed")


def test_a_check_that_fails_shows_what_the_command_printed_last(cg: Cg) -> None:
    """A traceback on stderr says why; what it printed on turns that went well is not shown."""
    script = "seq 100 >&2; echo no such module: desk >&2; exit 1"
    ran = cg("worker", "check", "--command", "sh", "-c", script)
    answer, any_input = ran.result["checks"][:2]
    assert (answer["verdict"], answer["printed"][-2:]) == ("failed", ["100", "no such module: desk"])
    assert len(answer["printed"]) < 100
    assert (any_input["verdict"], any_input["printed"]) == ("passed", [])
    failed = Check("answer", "failed", "a normal turn came to failed", ("no such module: desk",))
    shown = drawn(
        CheckCard(command=("x",), passed_count=0, failed_count=1, not_shown_count=0, checks=(failed,))
    )
    assert "what the command printed last: answer" in shown
    assert "no such module: desk" in shown


def test_a_process_left_behind_is_noticed(cg: Cg) -> None:
    """A worker ends what `&` leaves; a command that waits for it leaves nothing."""
    for script, verdict in (("sleep 30 &", "failed"), ("sleep 0.1 & wait;", "passed")):
        script += 'cp "$CG_INPUT_FILE" "$CG_FINAL_FILE"'
        ran = cg("worker", "check", "--command", "sh", "-c", script)
        verdicts = {each["name"]: each["verdict"] for each in ran.result["checks"]}
        assert verdicts["grandchild"] == verdict


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("--command", "/no/such"), "file_not_found"),
        (("--turns-json", "[]", "--command", "true"), "invalid_arguments"),
        (("--turns-json", "{", "--command", "true"), "invalid_json"),
        (("--turns-json", '{"x": 1}', "--command", "true"), "invalid_arguments"),
        (("--turns-json", "{}", "--turns-file", "x", "--command", "true"), "invalid_arguments"),
    ],
)
def test_what_cannot_be_checked_is_refused(cg: Cg, argv: tuple[str, ...], code: str) -> None:
    """With a code of its own."""
    ran = cg("worker", "check", *argv)
    assert (ran.exit_code, ran.error["code"]) == (1, code)


def test_a_person_sees_a_card() -> None:
    """A line for each check, and the count."""
    checks = (Check("stop", "passed", "it ended"), Check("later", "not shown", "give it"))
    shown = drawn(CheckCard(command=("x",), passed_count=1, failed_count=0, not_shown_count=1, checks=checks))
    assert "stop" in shown
    assert "1 passed, 0 failed, 1 not shown" in shown


# ---------------------------------------------------------------- replay


def test_a_turn_that_comes_to_the_same_again_is_the_same(cg: Cg, kernel: Kernel, desk: str) -> None:
    """Exit status 0; nothing is written to the kernel, and what it would record goes to stderr."""
    command = ("sh", "-c", 'echo 1 >> $CG_PROGRESS_FILE; cp "$CG_INPUT_FILE" "$CG_FINAL_FILE"')
    turn_id = answered(cg, kernel, desk, *command, input={"a": 1})
    before = dict(kernel.local.faults.seen)
    ran = cg("worker", "replay", turn_id, "--profile", desk, "--command", *command)
    assert (ran.exit_code, ran.result["same"], ran.result["difference"]) == (0, True, [])
    assert ran.result["now"] == {"outcome": "succeeded", "payload": {"a": 1}}
    assert "progress: 1\n" in ran.stderr
    changed = {verb for verb, count in kernel.local.faults.seen.items() if count != before.get(verb)}
    assert changed == {"get", "context"}


def test_a_turn_that_comes_to_something_else_shows_how(cg: Cg, kernel: Kernel, desk: str) -> None:
    """Exit status 1, and a diff of the outcome and the payload."""
    turn_id = answered(cg, kernel, desk, *ANSWER, input={"a": 1, "b": 2})
    other = ("sh", "-c", 'echo "{\\"a\\": 1, \\"b\\": 3}" > "$CG_FINAL_FILE"')
    ran = cg("worker", "replay", turn_id, "--profile", desk, "--command", *other)
    assert (ran.exit_code, ran.result["same"]) == (1, False)
    assert {'-  "b": 2', '+  "b": 3'} <= set(ran.result["difference"])
    suspended = ("sh", "-c", 'echo "{\\"reason\\": \\"later\\"}" > "$CG_SUSPEND_FILE"')
    ran = cg("worker", "replay", turn_id, "--profile", desk, "--command", *suspended)
    assert ran.result["now"] == {"outcome": "suspended", "payload": "later"}


def test_only_a_closed_turn_can_be_done_again(cg: Cg, kernel: Kernel, desk: str) -> None:
    """There is nothing to compare with; and it is done by a command or by a worker."""
    turn_id = kernel.dispatch(desk.split("/")[1])
    ran = cg("worker", "replay", turn_id, "--profile", desk, "--command", "true")
    assert "is queued: only a closed turn" in ran.error["message"]
    ran = cg("worker", "replay", turn_id, "--profile", desk)
    assert "give --app or --command" in ran.error["message"]


def test_a_person_sees_the_difference() -> None:
    """As a diff; what is the same is one line."""
    replay = Replay(project_id="p", turn_id="T-1", agent_id="a", same=False, then={}, now={"outcome": "x"},
                    difference=("--- then", "+++ now", "-1", "+2"))  # fmt: skip
    assert "+2" in drawn(replay)
