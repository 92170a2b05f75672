"""`--command` takes the rest of the line, and says so where that was perhaps not meant."""

from __future__ import annotations

import shlex

import pytest

from cgworker.cli.call import Call
from cgworker.cli.root import read

COMMANDS = [
    "worker once",
    "worker loop",
    "worker check",
    "worker replay T-1",
]


def doubts(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said on stderr when the line is read."""
    assert isinstance(read(shlex.split(line)), Call)
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_of_cg_after_command_are_named_in_a_warning(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also with `=`, each once; they still go to the command, as scripts may rely on."""
    said = doubts(f"{command} --command ./x --json --mode=fast --json=1 --other", capsys)
    assert said.startswith("warning: --json after --command goes to ./x, not to cg")
    assert said.count("\n") == 1


def test_every_flag_in_doubt_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """All that would have to be moved."""
    said = doubts("worker loop --command ./x --profile p/a --work-dir=w", capsys)
    assert said.startswith("warning: --profile, --work-dir after --command")


@pytest.mark.parametrize(
    "words",
    ["-- ./x --profile p/a", "./x -- --profile p/a", "./x --profiles p/a", "./x profile -profile", "./x"],
)
def test_two_dashes_end_the_doubt(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the command or within it; and what is no flag of cg is in no doubt."""
    assert doubts(f"worker loop --profile p/a --command {words}", capsys) == ""


def test_a_flag_in_doubt_cannot_drive_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """The command's name is spelled out."""
    assert "\x1b" not in doubts("worker loop --command './x\x1b[2J' --profile p/a", capsys)
