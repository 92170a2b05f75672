"""A command's file has the command's name."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from keyword import iskeyword
from pathlib import Path
from typing import Any

import pytest

import cgworker.cli.commands
from cgworker.cli.app import run
from cgworker.cli.examples import examples_of
from cgworker.cli.root import root_command

FOLDER = Path(cgworker.cli.commands.__path__[0])


def commands(of: Any, *words: str) -> Iterator[tuple[str, Any]]:
    """The commands below a word, each as the path of its words and typer's object for it."""
    if not hasattr(of, "list_commands"):
        yield "/".join(words).replace("-", "_"), of
        return
    for word in of.list_commands(None):
        yield from commands(of.get_command(None, word), *words, word)


def file_of(path: str) -> str:
    """The file of a command's words; no module can be named `import`."""
    return f"{path}_" if iskeyword(path.rpartition("/")[2]) else path


def test_each_command_is_in_the_file_of_its_name() -> None:
    """`cg turn stop` is in commands/turn/stop.py, and so is every other command in the file of its words."""
    modules = {path: command.callback.__module__ for path, command in commands(root_command())}
    assert modules == {path: f"cgworker.cli.commands.{file_of(path).replace('/', '.')}" for path in modules}
    assert "turn/stop" in modules
    assert "worker/claim/run" in modules


def test_the_folder_of_commands_holds_nothing_else() -> None:
    """Each file is a command, but for those that assemble a group."""
    files = {
        str(path.relative_to(FOLDER).with_suffix(""))
        for path in FOLDER.rglob("*.py")
        if path.name not in ("__init__.py", "group.py")
    }
    assert files == {file_of(path) for path, _ in commands(root_command())}


@pytest.mark.parametrize("path", [path for path, _ in commands(root_command())])
def test_help_is_plain_text_where_the_output_is_no_terminal(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe gets no frames, whether the command stands alone or in a group."""
    assert run([*path.replace("_", "-").split("/"), "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"Usage: cg {path.replace('_', '-').replace('/', ' ')} ")
    assert "\N{BOX DRAWINGS LIGHT ARC DOWN AND RIGHT}" not in said


@pytest.mark.parametrize("path", [path for path, _ in commands(root_command())])
def test_each_command_has_an_example_that_it_can_read(path: str) -> None:
    """The help ends with a line that a person can type; here it is parsed, and nothing runs."""
    words = path.replace("_", "-").split("/")
    (line,) = examples_of(" ".join(["cg", *words]))
    command: Any = root_command()
    for word in words:  # not all commands: making them takes longer than the rest of the test
        command = command.get_command(None, word)
    typed = shlex.split(line, comments=True)
    assert typed[: len(words) + 1] == ["cg", *words]
    with command.make_context(" ".join(words), typed[len(words) + 1 :]) as ctx:
        assert ctx.command is command


def test_connection_flags_come_last() -> None:
    """What a command is about is read first; where the kernel is, and as whom, comes at the end."""
    for path, command in commands(root_command()):
        panels = [getattr(flag, "rich_help_panel", None) for flag in command.params]
        own = [panel for panel in panels if panel != "Connection"]
        assert panels == own + ["Connection"] * (len(panels) - len(own)), path


def test_a_group_alone_prints_help_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cg` and `cg turn` are questions; a program that types them is told that a word is missing."""
    assert run(["turn"]) == 1
    assert '"invalid_arguments"' in capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for words in ([], ["turn"], ["worker", "claim"]):
        assert run(words) == 0
        shown = capsys.readouterr().out
        assert "Usage:" in shown
        assert "Examples:" in shown
