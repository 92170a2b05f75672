"""`cg worker why`: for each place a turn can be in, the reason in words, from a real kernel."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from cgworker import Turn, Worker
from tests.cli.conftest import Cg, Kernel


@pytest.fixture
def desk(cg: Cg, kernel: Kernel) -> str:
    """The id of a new agent with a profile; `cg` for the home it is in."""
    agent_id = f"desk-{secrets.token_hex(3)}"
    kernel.profile(cg, agent_id)
    return agent_id


def why(cg: Cg, kernel: Kernel, agent_id: str, turn_id: str) -> Any:
    profile = f"{kernel.project}/{agent_id}"
    return cg("worker", "why", turn_id, "--project-id", kernel.project, "--profile", profile).result


def worker(cg: Cg, kernel: Kernel, agent_id: str, verb: str, *flags: str) -> Any:
    return cg("worker", "claim", verb, "--profile", f"{kernel.project}/{agent_id}", *flags)


def claim(cg: Cg, kernel: Kernel, agent_id: str) -> str:
    path = str(cg.home / "claim.json")
    flags = ("--project-id", kernel.project, "--agent-id", agent_id, "--claim-out-file", path)
    assert worker(cg, kernel, agent_id, "next", *flags).result["claimed"]
    return path


def test_a_queued_turn_waits_for_a_worker(cg: Cg, kernel: Kernel, desk: str) -> None:
    """And for those that were queued before it."""
    kernel.dispatch(desk)
    told = why(cg, kernel, desk, kernel.dispatch(desk))
    assert told["state"] == "queued"
    assert told["because"][0] == f"1 turn of {desk} was queued before it"
    assert "cg worker loop --profile" in told["because"][1]
    assert told["story"][0]["text"] == "requester dispatched it"


def test_a_turn_with_a_priority_may_not_wait_for_those_before_it(cg: Cg, kernel: Kernel, desk: str) -> None:
    """They were queued before it, and are claimed after it."""
    kernel.dispatch(desk)
    reasons = why(cg, kernel, desk, kernel.dispatch(desk, priority=50))["because"]
    assert reasons[:2] == [
        f"1 turn of {desk} was queued before it",
        "its priority is 50: higher ones are claimed before it and lower ones after it",
    ]


def test_a_queued_turn_waits_for_a_slot(cg: Cg, kernel: Kernel, desk: str) -> None:
    """The turn that has it is named, with what would make more of them."""
    first, second = kernel.dispatch(desk), kernel.dispatch(desk)
    claim(cg, kernel, desk)
    reasons = why(cg, kernel, desk, second)["because"]
    assert reasons[0].startswith(f"{desk} runs {first} and can run 1 at once")


def test_a_drained_agent_takes_nothing(cg: Cg, kernel: Kernel, desk: str) -> None:
    """The command that lets it take turns again is told."""
    turn_id = kernel.dispatch(desk)
    cg("agent", "drain", "--project-id", kernel.project, "--agent-id", desk)
    assert "accepts no work: `cg agent resume" in why(cg, kernel, desk, turn_id)["because"][0]


def test_a_running_turn_is_worked_or_was_lost(cg: Cg, kernel: Kernel, desk: str) -> None:
    """Whose lease lives is told, and whose has ended."""
    turn_id = kernel.dispatch(desk)
    claim(cg, kernel, desk)
    told = why(cg, kernel, desk, turn_id)["because"][0]
    assert "its lease lasts another" in told
    assert "is renewed" not in told  # nobody knows yet whether its worker lives
    kernel.end_lease(turn_id)
    assert "the worker is gone" in why(cg, kernel, desk, turn_id)["because"][0]
    flags = ("--project-id", kernel.project, "--agent-id", desk)
    assert worker(cg, kernel, desk, "reconcile", *flags).result["reconciled_count"] == 1
    told = why(cg, kernel, desk, turn_id)
    assert "once a worker lost it" in told["because"][-1]
    assert any("its lease had ended" in line["text"] for line in told["story"])


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("worker_shutdown", "any live worker of"),
        ("worker_retry", "when its time has come"),
        ("no_handler", "handles no turn.conversation.v1"),
        ("await_children", "child"),
        ("need_input", "may resume it: `cg turn resume"),
    ],
)
def test_a_suspended_turn_waits_for_who_may_resume_it(
    cg: Cg, kernel: Kernel, desk: str, reason: str, told: str
) -> None:
    """By itself or by hand: the reason it was put aside with says so (difference 22)."""
    turn_id = kernel.dispatch(desk)
    path = claim(cg, kernel, desk)
    worker(cg, kernel, desk, "suspend", "--claim-file", path, "--reason", reason, "--note", "a note")
    answer = why(cg, kernel, desk, turn_id)
    assert answer["state"] == "suspended"
    assert told in answer["because"][0]
    assert answer["story"][-1]["text"] == f"{desk} put it aside ({reason}: a note)"


def test_a_closed_turn_tells_how_it_ended(cg: Cg, kernel: Kernel, desk: str) -> None:
    """A failure with its error and exit status."""
    turn_id = kernel.dispatch(desk)
    profile = f"{kernel.project}/{desk}"
    cg("worker", "once", "--profile", profile, "--command", "sh", "-c", "exit 3")
    reasons = why(cg, kernel, desk, turn_id)["because"]
    assert reasons[0].startswith(f"it failed, closed by {desk}")
    assert "worker_command_failed (child_exit_code 3)" in reasons[0]


def test_the_project_is_the_profiles(cg: Cg, kernel: Kernel, desk: str) -> None:
    """Unless another is named; with several profiles, one has to be."""
    turn_id = kernel.dispatch(desk)
    told = cg("worker", "why", turn_id, "--profile", f"{kernel.project}/{desk}").result
    assert (told["project_id"], told["state"]) == (kernel.project, "queued")
    assert cg("worker", "why", turn_id).result["project_id"] == kernel.project
    kernel.profile(cg, "another")
    refused = cg("worker", "why", turn_id).error
    assert (refused["code"], refused["status"]) == ("invalid_arguments", 2)
    assert refused["message"].startswith("--project-id is required without --profile; this machine has")


def test_a_requested_stop_is_told(cg: Cg, kernel: Kernel, desk: str) -> None:
    """The agent itself may ask; whoever works the turn next hears it."""
    turn_id = kernel.dispatch(desk)
    stopped = cg(
        "turn", "stop", "--project-id", kernel.project, "--turn-id", turn_id,
        "--requested-by", desk, "--reason", "enough",
    )  # fmt: skip
    assert stopped.result["snapshot"]["stop_requested"]
    told = why(cg, kernel, desk, turn_id)
    assert "a stop is requested" in " ".join(told["because"])
    assert told["story"][-1]["text"] == f"{desk} asked for a stop (enough)"


def test_a_suspended_turn_is_not_stopped_before_it_is_worked_again(cg: Cg, kernel: Kernel, desk: str) -> None:
    """What has it worked at once is told: a worker alone may take two minutes."""
    turn_id = kernel.dispatch(desk)
    path = claim(cg, kernel, desk)
    worker(cg, kernel, desk, "suspend", "--claim-file", path, "--reason", "await_answer")
    cg("turn", "stop", "--project-id", kernel.project, "--turn-id", turn_id, "--requested-by", desk)
    because = why(cg, kernel, desk, turn_id)["because"]
    assert because[-1].endswith(f"closes it as stopped; `cg turn resume {turn_id}` has it worked now")


def test_a_sleeping_turn_says_when_the_kernel_wakes_it(cg: Cg, kernel: Kernel, desk: str) -> None:
    """In words, and from nobody's worker."""

    async def nap(turn: Turn) -> None:
        await turn.sleep(3 * 3600 + 60, key="nap")

    async def work() -> None:
        async with await kernel.local.agent(desk) as client:
            assert await Worker(client, nap).once() is not None

    turn_id = kernel.dispatch(desk)
    kernel.portal.call(work)
    told = why(cg, kernel, desk, turn_id)
    assert told["because"] == ["suspended (await_time): the kernel queues it again in 3 h"]


def test_a_delayed_turn_is_due_later(cg: Cg, kernel: Kernel, desk: str) -> None:
    """Nothing else keeps it: it says when it can be claimed."""
    turn_id = kernel.dispatch(desk, delay_seconds=3 * 3600)
    assert why(cg, kernel, desk, turn_id)["because"] == ["due in 3 h"]


def test_a_stop_ends_the_delay_of_a_turn(cg: Cg, kernel: Kernel, desk: str) -> None:
    """It waits for a worker then, which settles it as stopped."""
    turn_id = kernel.dispatch(desk, delay_seconds=3 * 3600)
    cg("turn", "stop", "--project-id", kernel.project, "--turn-id", turn_id, "--requested-by", desk)
    reasons = why(cg, kernel, desk, turn_id)["because"]
    assert not any("due in" in reason for reason in reasons)
    assert any("it waits for a worker" in reason for reason in reasons)
    assert any("a stop is requested" in reason for reason in reasons)


def test_a_turn_waits_for_its_serial_key(cg: Cg, kernel: Kernel, desk: str) -> None:
    """The turn that holds the key is named."""
    first, second = [kernel.dispatch(desk, serial_key="conversation-17") for _ in range(2)]
    claim(cg, kernel, desk)
    reasons = why(cg, kernel, desk, second)["because"]
    assert f"waits for serial key conversation-17 held by {first}" in reasons
