"""What agents read is true: the skill for coding agents, whose story test_docs.py follows, and `llms.txt`."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import cgworker
from cgworker.cli.root import root_command
from tests.pages import ROOT, SKILL, blocks

LLMS = ROOT / "docs" / "llms.txt"
INLINE = re.compile(r"`(cg [^`]+)`")
TYPED = [
    line
    for block in blocks(SKILL)
    if block.language == "sh"
    for line in block.code.splitlines()
    if line.startswith("cg ")
]


def group_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command or group that the first words name, and the words after those."""
    found: Any = root_command()
    while words and hasattr(found, "get_command") and not words[0].startswith("-"):
        below = found.get_command(None, words[0])
        assert below is not None, f"there is no command {words[0]!r}"
        found, words = below, words[1:]
    return found, words


@pytest.mark.parametrize("line", TYPED)
def test_each_command_of_the_skill_can_be_typed(line: str) -> None:
    """It is parsed; nothing runs."""
    command, rest = group_of(shlex.split(line, comments=True)[1:])
    with command.make_context("cg", rest) as context:
        assert context.command is command


@pytest.mark.parametrize("page", [SKILL, LLMS], ids=lambda page: page.name)
def test_each_command_in_the_text_is_there(page: Path) -> None:
    """With the words that name it; what comes after may be left out."""
    named = INLINE.findall(page.read_text())
    assert named
    for line in named:
        group_of(shlex.split(line)[1:])


def test_the_skill_says_when_to_use_it() -> None:
    """Its name is its folder's, as the format of skills has it; the description is what agents see of it."""
    head = re.match(r"---\nname: (.+)\ndescription: (.+)\n---\n", SKILL.read_text())
    assert head is not None
    assert head[1] == SKILL.parent.name
    assert 50 < len(head[2]) <= 1024


def test_the_skill_stands_alone() -> None:
    """It is copied out of this repository, so it links to nothing beside it."""
    assert re.findall(r"\]\(([^)]+)\)", SKILL.read_text()) == []


@pytest.mark.parametrize("page", [SKILL, LLMS], ids=lambda page: page.name)
def test_each_call_of_a_turn_that_is_named_is_there(page: Path) -> None:
    """Who types what it says gets no AttributeError."""
    named = set(re.findall(r"\bturn\.([a-z_]+)\(", page.read_text()))
    assert {"ask", "once"} <= named
    assert [name for name in named if not hasattr(cgworker.Turn, name)] == []


def test_each_link_of_llms_txt_leads_somewhere() -> None:
    """A page of this folder, or a heading in one."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", LLMS.read_text())
    assert len(links) > 10
    assert [link for link in links if not (LLMS.parent / link).is_file()] == []
