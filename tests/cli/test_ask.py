"""`cg ask`: one line from a question to its answer, with what the turn asks meanwhile."""

from __future__ import annotations

import json
import os
import pty
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from cgworker import Turn, Worker, fail
from cgworker.worker.offers import _CALLING
from tests.cli.conftest import Cg, Kernel
from tests.warm import warm_python

Working = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def working(cg: Cg, kernel: Kernel) -> Working:
    """Runs a worker with a handler, and makes a person's profile; yields the agent's id."""

    @contextmanager
    def run(handler: Any) -> Iterator[str]:
        agent_id = f"desk-{secrets.token_hex(3)}"
        kernel.profile(cg, "me", grants=["turn.resume.any"])

        async def work() -> None:
            async with await kernel.local.agent(agent_id) as client:
                worker = Worker(client)
                worker.add("turn.conversation.v1", handler)
                workers.append(worker)
                ready.set()
                await worker.run()

        workers: list[Worker] = []
        ready = threading.Event()
        done = kernel.portal.start_task_soon(work)
        assert ready.wait(10)
        try:
            yield agent_id
        finally:
            kernel.portal.call(workers[0].drain)
            done.result(20)

    return run


def test_an_answer_takes_one_line(cg: Cg, working: Working) -> None:
    """Project, requester, kind, keys and profile are known or made up."""

    async def loud(turn: Turn) -> Any:
        return {"text": turn.input["task"].upper()}

    with working(loud) as desk:
        asked = cg("ask", desk, "hello")
    assert asked.exit_code == 0
    assert asked.result["final_payload"] == {"text": "HELLO"}


def test_a_failed_turn_is_exit_status_1(cg: Cg, working: Working) -> None:
    """A script sees it without reading the answer."""

    async def refuse(_turn: Turn) -> Any:
        return fail("not today")

    with working(refuse) as desk:
        asked = cg("ask", desk, "hello", "--json")
    assert asked.exit_code == 1
    assert asked.result["outcome"] == "failed"


def test_a_text_becomes_the_field_that_the_offer_requires(cg: Cg, kernel: Kernel, working: Working) -> None:
    """An agent that says what it takes is given that; several fields are for --payload-json."""

    async def echo(turn: Turn) -> Any:
        return turn.input

    with working(echo) as desk:
        me = kernel.profile(cg, "me", grants=["turn.resume.any"])
        offer: dict[str, Any] = {
            "turn_kind": "turn.conversation.v1",
            "calling": _CALLING,
            "variants": {},
            "notes": None,
            "purpose": None,
        }

        def offering(*required: str) -> None:
            contract = {"required_fields": list(required)}
            offers = {"turn_offers": [{**offer, "input_contract": contract}]}
            kernel.set_metadata(f"{kernel.project}/{desk}", offers)

        offering("prompt")
        assert cg("ask", desk, "hello").result["final_payload"] == {"prompt": "hello"}
        offering("a", "b")
        refused = cg("ask", desk, "hello", "--profile", me)
        assert "needs the fields a, b" in refused.error["message"]
        given = cg("ask", desk, "--payload-json", '{"a": 1, "b": 2}').result
        assert given["final_payload"] == {"a": 1, "b": 2}


def test_a_question_without_a_person_says_which_command_answers(cg: Cg, working: Working) -> None:
    """And the asking goes on until somebody has answered."""

    async def double(turn: Turn) -> Any:
        return 2 * await turn.ask(int, "Which number?", key="number")

    with working(double) as desk:
        asking = subprocess.Popen(
            [warm_python(), "-m", "cgworker", "ask", desk, "hello"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert asking.stderr is not None
        turn_id, _, question = asking.stderr.readline().partition(" ")
        assert question == "asks: Which number?\n"
        assert asking.stderr.readline() == f"hint: cg turn answer {turn_id} --key number --json 1\n"
        assert cg("turn", "answer", turn_id, "--json", "21").exit_code == 0
        out, _ = asking.communicate(timeout=60)
    assert json.loads(out)["result"]["final_payload"] == 42


def test_who_gives_up_is_told_that_the_turn_goes_on(cg: Cg, kernel: Kernel) -> None:
    """No worker answers here."""
    kernel.profile(cg, "me", grants=["turn.resume.any"])
    gave_up = cg("ask", "me", "hello", "--timeout-seconds", "0.1")
    assert gave_up.error["code"] == "timeout"
    assert "goes on" in gave_up.error["message"]


def test_a_person_is_asked_on_the_terminal(working: Working) -> None:
    """Yes and no are words; what does not fit is refused with its fault, and asked again."""

    async def ship(turn: Turn) -> Any:
        await turn.record({"step": "packing"})
        number = await turn.ask(int, "How many?", key="number")
        return {"text": f"shipped {number}" if await turn.ask(bool, "Ship?", key="ship") else "kept"}

    with working(ship) as desk:
        seen = talk("ask", desk, "go", answers=[("How many?", "many"), ("How many?", "3"), ("Ship?", "yes")])
    assert "· packing" in seen
    assert "a whole number" in seen
    assert "is not of type 'integer'" in seen or "integer" in seen
    assert "shipped 3" in seen
    assert '{"ok"' not in seen


def talk(*argv: str, answers: list[tuple[str, str]]) -> str:
    """Run `cg` on a terminal, and type each answer when its question is seen; return what was shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [warm_python(), "-m", "cgworker", *argv], stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    seen, asked = "", 0
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        try:
            while chunk := terminal.read(4096):
                seen += chunk.decode(errors="replace")
                if (
                    answers
                    and answers[0][0] in seen[asked:]
                    and "> " in seen[asked:].split(answers[0][0])[-1]
                ):
                    asked = len(seen)
                    terminal.write(answers.pop(0)[1].encode() + b"\n")
        except OSError:  # Linux ends a terminal whose other side is closed with an error
            pass
    assert process.wait(30) == 0, seen
    return seen


def test_waits_end_with_the_turns_success(cg: Cg, working: Working) -> None:
    """`--exit-status` of wait, follow and smoke pair: 1 for a turn that did not succeed, and else 0."""

    async def maybe(turn: Turn) -> Any:
        if turn.input["task"] == "no":
            return fail("no")
        return {"text": "yes"}

    with working(maybe) as desk:
        good = cg("ask", desk, "yes").result["turn_id"]
        bad = cg("ask", desk, "no").result["turn_id"]
        for words in (["turn", "wait"], ["turn", "follow"]):
            assert cg(*words, good, "--exit-status").exit_code == 0
            assert cg(*words, bad, "--exit-status").exit_code == 1
            assert cg(*words, bad).exit_code == 0
        listed = cg("turn", "list", "--target-agent", desk, "--outcome", "failed").result
        assert [turn["turn_id"] for turn in listed["items"]] == [bad]
        shown = cg("turn", "wait", "--turn-id", bad, "--exit-status").envelope
        assert shown["ok"]
        assert shown["result"]["outcome"] == "failed"


def test_a_turn_that_is_named_twice_is_refused(cg: Cg, kernel: Kernel) -> None:
    """Once as a word and once as a flag is fine if they agree."""
    kernel.profile(cg, "me", grants=["turn.resume.any"])
    turn_id = kernel.dispatch("me")
    assert cg("turn", "get", turn_id, "--turn-id", turn_id).result["turn_id"] == turn_id
    assert cg("turn", "get", turn_id, "--turn-id", "T-0").error["code"] == "invalid_arguments"
    assert "give a TURN" in cg("turn", "get").error["message"]


def test_a_dispatch_needs_an_agent_and_a_payload(cg: Cg, kernel: Kernel) -> None:
    """And a key from scripts, which may repeat it; when and in which order may be said."""
    kernel.profile(cg, "me", grants=["turn.resume.any"])
    payload = ("--payload-json", "{}", "--request-id", f"r-{secrets.token_hex(3)}")
    turn_id = cg("dispatch", "me", *payload, "--delay", "10m", "--priority", "5").result["turn_id"]
    assert cg("turn", "get", turn_id).result["snapshot"]["state"] == "queued"
    assert "--request-id" in cg("dispatch", "me", "--payload-json", "{}").error["message"]
    assert cg("dispatch", *payload).error["code"] == "invalid_arguments"


def test_an_operator_without_a_kernel_is_told_to_start_one(cg: Cg) -> None:
    """An invite before the kernel runs has no secret yet; a file to look for would lead nowhere."""
    refused = cg("admission", "invite", "create", "--project-id", "acme", "--agent-id", "desk")
    assert refused.error["code"] == "admin_auth_required"
    assert "hint: No kernel runs on this machine: `cg dev` or `cg local run` starts one." in refused.stderr
