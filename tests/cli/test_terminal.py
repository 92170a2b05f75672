"""On a terminal: pictures and progress for people, the envelope only when asked for."""

from __future__ import annotations

import os
import pty
import re
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from cgworker.cli.root import root_command
from tests.cli.conftest import Cg, Kernel
from tests.warm import warm_python


def on_a_terminal(*argv: str, typed: str = "") -> str:
    """What a person sees of a command, who has typed something."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [warm_python(), "-m", "cgworker", *argv], stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    seen = b""
    os.write(ours, typed.encode())
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while chunk := terminal.read(4096):
                seen += chunk
        except OSError:  # Linux ends a terminal whose other side is closed with an error
            pass
    process.wait(30)
    return seen.decode()


def test_a_person_sees_a_picture_in_colours(cg: Cg, kernel: Kernel) -> None:
    """And a program on the same terminal gets the envelope with --json."""
    profile = kernel.profile(cg, "desk")
    turn_id = kernel.dispatch("desk")
    flags = ("turn", "get", "--profile", profile, "--project-id", kernel.project, "--turn-id", turn_id)
    picture = on_a_terminal(*flags)
    assert "╭─" in picture
    assert "\x1b[36mqueued\x1b[0m" in picture
    assert on_a_terminal(*flags, "--json").startswith('{"ok":true,"result":{')


def test_a_person_sees_what_is_waited_for_and_why_it_failed(cg: Cg, kernel: Kernel) -> None:
    """The state while it lasts; then the problem."""
    profile = kernel.profile(cg, "desk-2")
    turn_id = kernel.dispatch("desk-2")
    flags = ("--profile", profile, "--project-id", kernel.project, "--turn-id", turn_id)
    seen = on_a_terminal("turn", "wait", *flags, "--timeout-seconds", "3", "--poll-interval-ms", "100")
    assert f"{turn_id} is queued" in seen
    assert "✗ " in seen
    assert '{"ok"' not in seen


@pytest.mark.parametrize("line", ["ask desk hi", "top", "turn list"])
def test_a_kernel_that_is_silent_is_waited_for_in_words(cg: Cg, kernel: Kernel, line: str) -> None:
    """Every command says so after two seconds, those that draw for themselves too."""
    profile = kernel.profile(cg, "waiter")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and reads none
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        seen = on_a_terminal(*line.split(), "--profile", profile, "--base-url", url)
    assert "waiting for the kernel" in seen
    assert "did not answer in time" in " ".join(seen.split())


def test_a_person_is_told_where_help_on_a_wrong_line_is() -> None:
    """The help of the command that was meant, as far as it could be read."""
    assert "`cg agent --help` shows what it takes" in on_a_terminal("agent", "frobnicate")
    assert "`cg turn get --help` shows what it takes" in on_a_terminal("turn", "get", "--wat")


def test_help_on_a_terminal_is_framed() -> None:
    """Plain elsewhere."""
    assert "╭─ Ask " in on_a_terminal("--help").replace("\x1b[2m", "").replace("\x1b[0m", "")


def test_a_json_value_is_no_wish_for_the_envelope() -> None:
    """`cg turn answer --json JSON` fails in words, on a terminal."""
    seen = on_a_terminal("turn", "answer", "T-1", "--json", "{", "--project-id", "p", "--agent-id", "a")
    assert "✗ " in seen
    assert '{"ok"' not in seen


def test_a_wrong_choice_is_told_in_words_of_this_program(cg: Cg) -> None:
    """And not in those of the library that checks it."""
    message = cg("turn", "list", "--state", "qued").error["message"]
    assert message.startswith("Invalid value for '--state': 'qued' is not one of 'queued', ")


def test_help_on_a_terminal_fills_its_lines_and_gives_flags_no_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the lines of the docstring; a flag such as --open takes no value."""
    monkeypatch.setenv("COLUMNS", "400")
    root = root_command()
    console = root.get_command(typer.Context(root), "console")
    for command in (root, console):
        monkeypatch.setattr(command, "rich_markup_mode", "rich")
        command.get_help(typer.Context(command, info_name="cg"))
        shown = capsys.readouterr().out
        assert "<bool>" not in shown
    assert "once. It needs the extra cgworker[console]." in shown


def leaves(command: Any, ctx: typer.Context) -> Iterator[tuple[Any, typer.Context]]:
    """All commands below one, each with its context."""
    words = command.list_commands(ctx) if hasattr(command, "list_commands") else []
    if not words:
        yield command, ctx
    for word in words:
        found = command.get_command(ctx, word)
        yield from leaves(found, typer.Context(found, info_name=word, parent=ctx))


def test_help_on_a_terminal_keeps_what_is_in_brackets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`[env: PG_DSN]`, `[default: ...]`: they are no markup, in the help of no command."""
    monkeypatch.setenv("COLUMNS", "400")
    root = root_command()
    told = 0
    for command, ctx in leaves(root, typer.Context(root, info_name="cg")):
        monkeypatch.setattr(command, "rich_markup_mode", "rich")
        command.get_help(ctx)
        shown = " ".join(capsys.readouterr().out.split())
        for text in (command.help or "", *(flag.help or "" for flag in command.params)):
            for bracketed in re.findall(r"\[[^]]+\]", text):
                assert " ".join(bracketed.split()) in shown, f"{ctx.command_path}: {bracketed}"
                told += 1
    assert told > 50
