"""What type checkers see: every public name, and the mistakes that an editor should underline."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.measured import unmeasured

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent

HANDLERS = """
from dataclasses import dataclass
from typing import Any, TypedDict, assert_type

from attrs import frozen

from cgworker import CommandHandler, Outcome, Turn, Worker, WorkerOptions, fail, handles
from cgworker.testing import play

@frozen
class Question:
    text: str

@dataclass
class Answer:
    text: str

class Plain(TypedDict):
    text: str

class Handle: ...

desk = Worker.from_profile("p/a", options=WorkerOptions(concurrency=2))

@desk.turn("attrs.v1")
async def attrs_class(turn: Turn, question: Question) -> Question:
    return question

@desk.turn("dataclass.v1")
async def or_an_outcome(turn: Turn, question: Question, *, resource: Handle) -> Answer | Outcome:
    return Answer(question.text) if question.text else fail("empty")

@desk.turn("typed_dict.v1")
def in_a_thread(turn: Turn, question: Plain) -> Plain:
    return {"text": question["text"]}

@desk.turn()
async def anything(turn: Turn) -> Any: ...

@desk.turn("list.v1")
async def several(turn: Turn) -> list[Answer]:
    return []

desk.add("command.v1", CommandHandler(["true"]))

class Desk(Worker):
    @handles("method.v1")
    async def method(self, turn: Turn, question: Question) -> Answer:
        return Answer(question.text)

    @handles("wrong.v1")  # wrong
    async def not_json(self, turn: Turn) -> Handle: ...

async def uses() -> None:
    assert_type(await attrs_class(await_turn(), Question("a")), Question)
    assert_type((await play(attrs_class, Question("a"))).suspended_reason, str | None)
    turn = await_turn()
    assert_type(await turn.once("key", lambda: 1, returns=int), int)
    assert_type(await turn.ask(Question, "which?", key="key"), Question)

def await_turn() -> Turn: ...

@desk.turn("wrong.v1")
async def wrong_return(turn: Turn, question: Question) -> Answer:
    return "text"  # wrong

@desk.turn("wrong.v2")  # wrong
async def returns_bytes(turn: Turn) -> bytes: ...

@desk.turn("wrong.v3")  # wrong
async def returns_a_handle(turn: Turn) -> Handle: ...

@desk.turn("wrong.v4")  # wrong
async def takes_no_turn() -> str: ...

@desk.turn("wrong.v5")  # wrong
async def takes_something_else(turn: int) -> str: ...

desk.turn(7)  # wrong
WorkerOptions(concurrency="two")  # wrong
"""


@pytest.fixture(scope="module")
def handlers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("typed") / "handlers.py"
    path.write_text(HANDLERS)
    return path


def wrong_lines() -> set[int]:
    """Where the program says that it is wrong."""
    return {number for number, line in enumerate(HANDLERS.splitlines(), 1) if line.endswith("# wrong")}


def run(*command: str, cwd: Path = ROOT) -> str:
    """What a checker prints; it fails where it finds something."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=cwd, env={**unmeasured(), "PATH": path}, capture_output=True, text=True, check=False
    )
    return done.stdout


@pytest.mark.timeout(300)
def test_mypy_underlines_what_is_wrong_and_nothing_else(handlers: Path) -> None:
    """Wrong returns, returns that are not JSON, and signatures that are no handler's."""
    found = run("mypy", "--strict", "--no-error-summary", "--disable-error-code=empty-body", str(handlers))
    errors = re.findall(r"handlers\.py:(\d+): error", found)
    assert {int(line) for line in errors} == wrong_lines(), found


@pytest.mark.timeout(300)
def test_pyright_underlines_the_same(handlers: Path) -> None:
    """Editors that are built on it show what mypy says."""
    found = json.loads(run("pyright", "--outputjson", str(handlers), cwd=handlers.parent))
    errors = [each for each in found["generalDiagnostics"] if each.get("rule") != "reportReturnType"]
    shown = {each["range"]["start"]["line"] + 1 for each in found["generalDiagnostics"]} & wrong_lines()
    assert shown == wrong_lines(), found
    assert {each["range"]["start"]["line"] + 1 for each in errors} <= wrong_lines(), errors


@pytest.mark.timeout(300)
def test_every_public_name_has_a_known_type(tmp_path: Path) -> None:
    """`pyright --verifytypes`: 100 %."""
    told = run("pyright", "--verifytypes", "cgworker", "--ignoreexternal", "--outputjson", cwd=tmp_path)
    symbols = json.loads(told)["typeCompleteness"]["symbols"]
    unknown = [
        each["name"]
        for each in symbols
        if each["isExported"]
        and (not each["isTypeKnown"] or each["isTypeAmbiguous"])
        and not each["name"].startswith("cgworker.adapters.mcp_")  # `make test-mcp` checks them, where mcp is
        and not each["name"].startswith("cgworker.adapters.nanobot_steps.")  # NanoBot tells no types
    ]
    assert unknown == []
