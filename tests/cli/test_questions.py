"""`cg turn questions|answer|follow`: what a suspended turn asks, telling it, and watching it go on."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from cgworker import Turn, Worker, fail
from tests.cli.conftest import Cg, Kernel


@pytest.fixture
def desk(cg: Cg, kernel: Kernel) -> str:
    """The profile of a new agent."""
    return kernel.profile(cg, f"desk-{secrets.token_hex(3)}")


def work_once(kernel: Kernel, profile: str) -> None:
    """Let the agent's worker take a turn that asks for a number and doubles it."""

    async def work() -> None:
        async with await kernel.local.agent(profile.split("/")[1]) as client:
            worker = Worker(client)

            @worker.turn()
            async def double(turn: Turn) -> Any:
                await turn.record({"step": "asking"})
                return {"doubled": 2 * await turn.ask(int, "Which number?", key="number")}

            assert await worker.once() is not None

    kernel.portal.call(work)


def test_a_question_is_listed_answered_and_followed(cg: Cg, kernel: Kernel, desk: str) -> None:
    """The whole way of an approval from the command line, with the profile as all that is given."""
    turn_id = kernel.dispatch(desk.split("/")[1])
    work_once(kernel, desk)
    listed = cg("turn", "questions", "--profile", desk).result
    (question,) = [item for item in listed["items"] if item["turn"]["turn_id"] == turn_id]
    assert (question["key"], question["question"], question["schema"]) == (
        "number",
        "Which number?",
        {"type": "integer"},
    )

    answered = cg("turn", "answer", turn_id, "--json", "21", "--profile", desk).result
    assert answered == {"project_id": kernel.project, "turn_id": turn_id, "key": "number", "value": 21}

    work_once(kernel, desk)
    followed = cg("turn", "follow", turn_id, "--profile", desk)
    lines = [json.loads(line) for line in followed.stdout.splitlines()]
    roles = [line["record_role"] for line in lines]
    assert roles == ["bootstrap", "progress", "question", "progress", "answer", "deliverable"]
    assert lines[-1]["payload"] == {"doubled": 42}
    later = cg("turn", "follow", turn_id, "--profile", desk, "--after-turn-seq", "5")
    assert len(later.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "code", "status"),
    [
        (('"x"',), "invalid_input", 422),
        (("nonsense",), "invalid_json", 422),
        (("1", "--key", "other"), "conflict", 409),
    ],
)
def test_an_answer_that_cannot_be_one_is_not_sent(
    cg: Cg, kernel: Kernel, desk: str, given: tuple[str, ...], code: str, status: int
) -> None:
    """It says why, and the turn stays where it is."""
    turn_id = kernel.dispatch(desk.split("/")[1])
    work_once(kernel, desk)
    refused = cg("turn", "answer", turn_id, "--profile", desk, "--json", *given)
    assert (refused.exit_code, refused.error["code"], refused.error["status"]) == (1, code, status)
    turn = cg("turn", "get", "--project-id", kernel.project, "--turn-id", turn_id, "--profile", desk).result
    assert turn["state"] == "suspended"


@pytest.mark.parametrize("words", [("questions",), ("answer", "T-1", "--json", "1"), ("follow", "T-1")])
def test_who_acts_must_be_said(cg: Cg, words: tuple[str, ...]) -> None:
    """The refusal names the command that was given."""
    refused = cg("turn", *words)
    assert refused.exit_code == 1
    assert f"cg turn {words[0]} requires --profile" in refused.stdout + refused.stderr


def test_a_second_answer_is_told_that_it_is_too_late(cg: Cg, kernel: Kernel, desk: str) -> None:
    """A conflict, in words."""
    turn_id = kernel.dispatch(desk.split("/")[1])
    work_once(kernel, desk)
    assert cg("turn", "answer", turn_id, "--json", "1", "--profile", desk).exit_code == 0
    second = cg("turn", "answer", turn_id, "--json", "2", "--profile", desk)
    assert second.error["code"] == "conflict"
    assert "answered already" in second.error["message"]


def test_why_tells_that_a_turn_waits_for_an_answer(cg: Cg, kernel: Kernel, desk: str) -> None:
    """And which command gives one."""
    turn_id = kernel.dispatch(desk.split("/")[1])
    work_once(kernel, desk)
    told = cg("worker", "why", turn_id, "--project-id", kernel.project, "--profile", desk).result
    assert any("cg turn answer" in reason for reason in told["because"])


def test_a_question_is_declined(cg: Cg, kernel: Kernel, desk: str) -> None:
    """It is open no more, and the handler gets the reason."""
    turn_id = kernel.dispatch(desk.split("/")[1])
    work_once(kernel, desk)
    declined = cg("turn", "decline", turn_id, "--reason", "ask my boss", "--profile", desk).result
    assert declined == {
        "project_id": kernel.project,
        "turn_id": turn_id,
        "key": "number",
        "reason": "ask my boss",
    }
    again = cg("turn", "decline", turn_id, "--profile", desk)
    assert again.error["code"] == "conflict"
    work_once(kernel, desk)
    turn = cg("turn", "get", "--project-id", kernel.project, "--turn-id", turn_id, "--profile", desk).result
    assert turn["outcome"] == "failed"
    assert turn["final_payload"]["message"] == "the question 'number' was declined: ask my boss"


def test_a_turn_is_told_something_by_its_requester(cg: Cg, kernel: Kernel, desk: str) -> None:
    """A text or a JSON value; repeated with the same key it stays one message."""
    turn_id = kernel.dispatch(desk.split("/")[1])
    told = cg("turn", "tell", turn_id, "use the other file", "--key", "m1", "--profile", desk).result
    assert told == {
        "project_id": kernel.project,
        "turn_id": turn_id,
        "key": "m1",
        "message": "use the other file",
    }
    cg("turn", "tell", turn_id, "use the other file", "--key", "m1", "--profile", desk)
    cg("turn", "tell", turn_id, "--json", '{"n": 1}', "--profile", desk)
    turn = ("--project-id", kernel.project, "--turn-id", turn_id, "--profile", desk)
    items = cg("turn", "context", *turn).result["semantic_items"]
    said = [item["content"]["cards"][0]["content"]["data"]["message"] for item in items[1:]]
    assert said == ["use the other file", {"n": 1}]


def test_a_message_is_given_once(cg: Cg, kernel: Kernel, desk: str) -> None:
    """As a text or as JSON: with both or neither it is the command line that is wrong."""
    turn_id = kernel.dispatch(desk.split("/")[1])
    for given in ((), ("text", "--json", "1")):
        refused = cg("turn", "tell", turn_id, *given, "--profile", desk)
        assert (refused.exit_code, refused.error["code"]) == (1, "invalid_arguments")


def test_a_closed_turn_is_done_again(cg: Cg, kernel: Kernel, desk: str) -> None:
    """One by its id, many by how they ended; `--dry-run` only lists them; a repeat makes no further turn."""
    name = desk.split("/")[1]
    turn_ids = [kernel.dispatch(name) for _ in range(2)]
    fail_all(kernel, desk, 2)
    first = cg("turn", "redo", turn_ids[0], "--keep-steps", "--profile", desk).result
    [item] = first["items"]
    assert (item["turn_id"], item["error"]) == (turn_ids[0], None)
    bulk = ("turn", "redo", "--outcome", "failed", "--target-agent", name, "--profile", desk)
    listed = cg(*bulk, "--dry-run").result
    assert listed["dry_run"]
    assert [each["turn_id"] for each in listed["items"]] == turn_ids[::-1]
    assert {each["redone_as"] for each in listed["items"]} == {None}
    for _ in range(2):
        done = {each["turn_id"]: each for each in cg(*bulk).result["items"]}
        assert set(done) == set(turn_ids)
        assert done[turn_ids[1]]["redone_as"]
        assert "spawn key conflict" in done[turn_ids[0]]["error"]  # it was done again with --keep-steps


def test_many_that_were_interrupted_are_done_again_once(cg: Cg, desk: str, kernel: Kernel) -> None:
    """The answer to the second one is lost; the same line does what is left, and repeats nothing."""
    name = desk.split("/")[1]
    turn_ids = [kernel.dispatch(name) for _ in range(3)]
    fail_all(kernel, desk, 3)
    bulk = ("turn", "redo", "--outcome", "failed", "--target-agent", name, "--profile", desk)
    first = cg("turn", "redo", turn_ids[2], "--profile", desk).result["items"][0]["redone_as"]
    kernel.local.faults.drop_response("redo")
    assert cg(*bulk).exit_code == 1
    done = {each["turn_id"]: each["redone_as"] for each in cg(*bulk).result["items"]}
    assert set(done) == set(turn_ids)
    assert done[turn_ids[2]] == first
    queued = cg("turn", "list", "--target-agent", name, "--state", "queued", "--profile", desk).result[
        "items"
    ]
    assert {each["turn_id"] for each in queued} == set(done.values())


@pytest.mark.parametrize(
    "line",
    [
        (),
        ("T-1", "--outcome", "failed"),
        ("T-1", "--target-agent", "a"),
        ("--outcome", "failed", "--key", "k"),
    ],
)
def test_what_is_to_be_done_again_is_one_turn_or_many(cg: Cg, desk: str, line: tuple[str, ...]) -> None:
    """Nothing is done by a line that could mean two things."""
    refused = cg("turn", "redo", *line, "--profile", desk)
    assert (refused.exit_code, refused.error["code"]) == (1, "invalid_arguments")


def fail_all(kernel: Kernel, profile: str, count: int) -> None:
    """Let the agent's worker fail so many turns."""

    async def work() -> None:
        async with await kernel.local.agent(profile.split("/")[1]) as client:
            worker = Worker(client)

            @worker.turn()
            async def fail_it(_: Turn) -> Any:
                return fail({"error": "no"})

            for _ in range(count):
                assert await worker.once() is not None

    kernel.portal.call(work)
