"""`module:worker`: programs of the user's, served and described by `cg`."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cg, Kernel
from tests.warm import warm_python

PROGRAM = '''
from contextlib import asynccontextmanager
from attrs import frozen
from cgworker import Turn, Worker

@frozen
class Question:
    """What is asked."""
    text: str
    times: int = 1

@asynccontextmanager
async def lifespan(worker):
    yield {{"word": "{word}"}}

desk = Worker.from_profile("{first}", lifespan=lifespan)
bell = Worker.from_profile("{second}")

@desk.turn("turn.conversation.v1")
async def answer(turn: Turn, question: Question, *, word: str) -> dict[str, str]:
    """Answer a question."""
    return {{"text": question.text * question.times + word}}

@bell.turn("turn.conversation.v1")
async def ring(turn: Turn) -> str:
    return "ring"

def both():
    return [desk, bell]

number = 7
'''


@pytest.fixture
def desk(cg: Cg, kernel: Kernel) -> str:
    return kernel.profile(cg, f"desk-{secrets.token_hex(3)}", kinds=("turn.conversation.v1",))


@pytest.fixture
def bell(cg: Cg, kernel: Kernel) -> str:
    return kernel.profile(cg, f"bell-{secrets.token_hex(3)}")


@pytest.fixture
def program(desk: str, bell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program in the working directory, under a name that no other test has imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / f"program_{secrets.token_hex(4)}.py"
    path.write_text(PROGRAM.format(first=desk, second=bell, word="!"))
    yield path
    sys.modules.pop(path.stem, None)


def agent_of(profile: str) -> str:
    return profile.split("/")[1]


def until(seen: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (found := seen()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def answered(cg: Cg, kernel: Kernel, profile: str, turn_id: str) -> Any:
    shown = cg("turn", "wait", "--profile", profile, "--project-id", kernel.project, "--turn-id", turn_id)
    return shown.result["final_payload"]


def start(cg: Cg, *argv: str) -> subprocess.Popen[bytes]:
    return cg.start(warm_python(), "worker", "run", *argv)


# ---------------------------------------------------------------- run


@pytest.mark.parametrize("named", ["both", "one by one"])
def test_several_workers_are_served_until_they_are_told_to_end(
    cg: Cg, kernel: Kernel, program: Path, desk: str, bell: str, named: str
) -> None:
    """By themselves or as what a function makes; exit status 0, and the envelope says who was served."""
    stem = program.stem
    apps = [f"{stem}:both"] if named == "both" else [f"{stem}:desk", f"{program.name}:bell"]
    process = start(cg, "--concurrency", "2", "--grace-seconds", "5", *apps)
    first = kernel.dispatch(agent_of(desk), {"text": "ha", "times": 2})
    second = kernel.dispatch(agent_of(bell))
    assert answered(cg, kernel, desk, first) == {"text": "haha!"}
    assert answered(cg, kernel, bell, second) == "ring"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    served = json.loads(out)["result"]["served"]
    assert {agent["agent_id"] for agent in served} == {agent_of(desk), agent_of(bell)}


def test_a_changed_file_starts_the_workers_again_after_a_drain(
    cg: Cg, kernel: Kernel, program: Path, desk: str, bell: str
) -> None:
    """--reload: the turn held at the change is answered by the old program, the next one by the new."""
    process = start(cg, "--reload", f"{program.stem}:desk")
    try:
        turn = kernel.dispatch(agent_of(desk), {"text": "a"})
        assert answered(cg, kernel, desk, turn) == {"text": "a!"}
        program.write_text(PROGRAM.format(first=desk, second=bell, word="?"))

        def answer() -> Any:
            return answered(cg, kernel, desk, kernel.dispatch(agent_of(desk), {"text": "a"}))

        until(lambda: answer() == {"text": "a?"})
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert b"draining and starting again" in err
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_a_worker_process_that_was_killed_is_started_again(
    cg: Cg, kernel: Kernel, program: Path, desk: str
) -> None:
    """--reload: no file has to change for that."""
    program.write_text(program.read_text() + "\nimport os\nopen('pid', 'w').write(str(os.getpid()))\n")
    process = start(cg, "--reload", f"{program.stem}:desk")
    pid = program.parent / "pid"

    def answer() -> Any:
        return answered(cg, kernel, desk, kernel.dispatch(agent_of(desk), {"text": "a"}))

    try:
        assert answer() == {"text": "a!"}
        killed = pid.read_text()
        os.kill(int(killed), signal.SIGKILL)
        until(lambda: pid.read_text() not in ("", killed))
        assert answer() == {"text": "a!"}
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert b"ended by SIGKILL: starting again" in err
        assert process.returncode == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("desk", "write module:worker"),
        ("nowhere_at_all:desk", "there is no module 'nowhere_at_all'"),
        ("{stem}:dsk", "has no 'dsk'; its workers are desk, bell"),
        ("{stem}:number", "is a int: name a Worker"),
        ("{stem}:Question", "is the class Question: name a Worker"),
    ],
)
def test_what_is_no_worker_is_refused_with_what_to_do(cg: Cg, program: Path, app: str, said: str) -> None:
    """Exit status 1, and a message that names the way out."""
    ran = cg("worker", "run", app.format(stem=program.stem))
    assert (ran.exit_code, ran.error["code"]) == (1, "invalid_arguments")
    assert said in ran.error["message"]


def test_a_program_that_cannot_be_imported_shows_where(cg: Cg, program: Path) -> None:
    """Its own traceback, on stderr; a missing profile is told as anywhere else."""
    program.write_text("1 / 0\n")
    ran = cg("worker", "run", f"{program.stem}:desk")
    assert "cannot be imported: ZeroDivisionError" in ran.error["message"]
    assert f'{program.name}", line 1' in ran.stderr
    program.write_text("from cgworker import Worker\ndesk = Worker.from_profile('no/where')\n")
    assert cg("worker", "run", f"{program.stem}:desk").error["code"] == "profile_missing"


# ---------------------------------------------------------------- offers


def test_the_kinds_of_a_worker_are_offered_with_the_schema_of_their_input(
    cg: Cg, kernel: Kernel, program: Path, desk: str
) -> None:
    """What the agent offered before, and what else its metadata says, stays."""
    metadata = {
        "ui": {"label": "Desk"},
        "turn_offers": [
            {"turn_kind": "other.v1", "calling": {"operation": "dispatch", "authority_modes": []},
             "input_contract": {"required_fields": []}},
            {"turn_kind": "turn.conversation.v1", "notes": "mind the step",
             "calling": {"operation": "dispatch", "authority_modes": [{"mode": "root_request"}]},
             "input_contract": {"example_payload": {"text": "hi"}}},
        ],
    }  # fmt: skip
    kernel.set_metadata(desk, metadata)
    ran = cg("agent", "publish-offers", "--app", f"{program.stem}:desk")
    project, agent = desk.split("/")
    assert ran.result == {
        "published": [
            {
                "project_id": project,
                "agent_id": agent,
                "turn_kind": "turn.conversation.v1",
                "required_fields": ["text"],
                "has_capability": True,
            }
        ]
    }
    get = ("agent", "get", "--profile", desk, "--project-id", project, "--agent-id", agent)
    now = cg(*get).result["snapshot"]["public_metadata"]
    assert now["ui"] == {"label": "Desk"}
    other, offer = now["turn_offers"]
    assert other["turn_kind"] == "other.v1"
    assert (offer["purpose"], offer["notes"]) == ("Answer a question.", "mind the step")
    assert offer["calling"]["authority_modes"] == [{"mode": "root_request"}]
    contract = offer["input_contract"]
    assert (contract["example_payload"], contract["required_fields"]) == ({"text": "hi"}, ["text"])
    assert contract["json_schema"]["$defs"]["Question"]["properties"]["times"] == {
        "type": "integer",
        "default": 1,
    }


def test_a_kind_that_the_agent_may_not_be_given_is_named(cg: Cg, program: Path) -> None:
    """It is published, and the kernel does not list it."""
    program.write_text(
        program.read_text()
        + textwrap.dedent(
            """
            @bell.turn("ring.v2")
            async def again(turn: Turn) -> None: ...
            """
        )
    )
    published = cg("agent", "publish-offers", "--app", f"{program.stem}:bell").result["published"]
    assert [(each["turn_kind"], each["has_capability"]) for each in published] == [
        ("turn.conversation.v1", True),
        ("ring.v2", False),
    ]


def test_a_worker_without_a_kind_of_its_own_has_nothing_to_offer(cg: Cg, program: Path, desk: str) -> None:
    """One handler for everything is no offer."""
    program.write_text(
        f"from cgworker import Worker\ndesk = Worker.from_profile({desk!r})\ndesk.add(None, lambda turn: 1)\n"
    )
    ran = cg("agent", "publish-offers", "--app", f"{program.stem}:desk")
    assert "no handler for a kind of its own" in ran.error["message"]
